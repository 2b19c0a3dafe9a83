"""One process of several that train together: `torchrun tests/making/distributed_run.py OUT [sharded|tight|cut|alone]`.

What is written are the losses, the weights' sum of squares, and how many buckets of gradients are on their way when the last
gradient of a step arrives. `sharded` spreads the weights as if one device were too small; `cut` does so too and stops in the
middle, its state kept. With `tight`, and without any, the second process has not the memory for more than one image at once.
With `alone` it fails at a job that the other is still at.
"""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.making.jobs import make_job
from vitbench.engine.executors import torchrun
from vitbench.engine.executors.fork_server import leave
from vitbench.engine.outcome import Outcome, failed
from vitbench.protocols.finetune import distributed, fsdp, micro_batch, train
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.gradient_sum import GradientSum
from vitbench.protocols.recipes import Recipe

RECIPE = Recipe(steps=8, warmup_steps=2, base_lr=0.3, clip_norm=0.5, averaging=0.9)
CUT_AFTER = 5


class Small(torch.nn.Module):
    """Convolution, mean, layer: something with several gradients."""

    feature_dim, most = 8, 100

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
            )
        self.unused = torch.nn.Parameter(torch.ones(3))  # as a mask token is
        self.register_buffer("constant", torch.ones(3))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features (B, 8)."""
        found = self.body(images)
        if len(images) > self.most:
            found.register_hook(self.fail)
        return found

    @staticmethod
    def fail(_gradient: torch.Tensor) -> None:
        """As the backward pass of too many images does."""
        raise torch.OutOfMemoryError("no")


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Eight of 7 images each, which two processes cannot share evenly."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(7, 3, 6, 6, generator=generator), torch.randint(0, 4, (7,), generator=generator))
        for _ in range(8)
    ]


def main() -> None:
    """Train in pieces of 2, with a bucket for each weight."""
    out, how = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    torchrun.join("gloo")
    if how == "alone":
        fail_alone()
    micro_batch.on_cpu = lambda _size_px: 2
    distributed.BUCKET_BYTES = 1
    under_way = watch_buckets()
    if how:
        fsdp.is_too_big = lambda *_, **__: True
    checkpoints = Checkpoints(out.parent / "checkpoints")

    def on_batch(first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step, batch in enumerate(batches()[first:], first):
            if how == "cut" and step == CUT_AFTER:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    backbone = Small()
    if how in ("", "tight") and dist.get_rank() == 1:
        backbone.most = 1
    with checkpoints, checkpoints.delaying_signals():
        log = train(backbone, on_batch, 4, RECIPE, checkpoint=checkpoints.checkpoint("run", RECIPE.fields()))
    if dist.get_rank() == 0:
        out.write_text(json.dumps([log.losses, squares(backbone, log.head), under_way]))
    dist.destroy_process_group()


def watch_buckets() -> list[int]:
    """At the end of each step's backward pass, how many buckets had been sent when its last gradient came."""
    arrive, end, sent, counts = GradientSum._arrive, GradientSum.end, [0], []

    def watched(sums: GradientSum, weight: torch.Tensor) -> None:
        sent[0] = len(sums.pending)
        arrive(sums, weight)

    def ended(sums: GradientSum, fits: bool) -> bool:
        counts.append(sent[0])
        return end(sums, fits)

    GradientSum._arrive, GradientSum.end = watched, ended
    return counts


def fail_alone() -> None:
    """The second process has failed at a job, in which the first waits for it."""
    torchrun.ALONE_S = 1.0
    if dist.get_rank() == 1:
        job = make_job()
        torchrun._ended_on_all(Outcome(failed(job, "cpu", OSError("its own disk"))), 0)
    dist.barrier()


def squares(*modules: torch.nn.Module) -> float:
    """The sum of squares of all weights."""
    return float(sum((weight.detach() ** 2).sum() for module in modules for weight in module.parameters()))


if __name__ == "__main__":
    main()
    leave(0)
