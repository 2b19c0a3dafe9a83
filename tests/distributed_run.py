"""One process of several that train together: `torchrun tests/distributed_run.py OUT`. Started by test_finetune_jobs.py."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
from vitbench.protocols.finetune import train
from vitbench.protocols.recipes import Recipe
from vitbench.protocols.tuning import fitting

RECIPE = Recipe(steps=8, warmup_steps=2, base_lr=0.3, clip_norm=0.5)


class Small(torch.nn.Module):
    """Convolution, mean, layer: something with several gradients."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
            )

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features (B, 8)."""
        return self.body(images)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Eight of 7 images each, which two processes cannot share evenly."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(7, 3, 6, 6, generator=generator), torch.randint(0, 4, (7,), generator=generator))
        for _ in range(8)
    ]


def main() -> None:
    """Train in pieces of 2."""
    dist.init_process_group("gloo")
    fitting.ON_CPU = 2
    log = train(Small(), batches(), 4, RECIPE)
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(log.losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
