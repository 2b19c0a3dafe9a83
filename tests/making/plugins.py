"""Plugins and suites that several tests run."""

REPLICATED = """\
name: replicated
backbones: [{name: small-cnn}]
tasks: [digits]
protocols:
  - {name: finetune, recipe: own, steps: 6, batch_size: 32, base_lr: 0.1, replicas: 2, budgets: [5-shot]}
  - {name: ridge_probe, budgets: [2-shot]}
"""


SMALL_CNN = """\
import torch
from torch import nn
from vitbench import register_backbone
from vitbench.api import InputSpec, Provenance

@register_backbone("small-cnn")
class SmallCnn(nn.Module):
    "Two convolutions."
    provenance = Provenance(family="CNN", weights="untrained", pretrain_data="none")
    input = InputSpec(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    feature_dim = 16

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
        for weight in self.body.parameters():
            nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))

    def features(self, images):
        return self.body(images).mean((2, 3))
"""


FLAKY = """\
from dataclasses import dataclass
from pathlib import Path
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("flaky")
@dataclass(frozen=True)
class Flaky(Protocol):
    "Fails while a file is there: `at:` and its path, which alone would be in the key by its content."
    marker: str = ""

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        if data.seed == 1 and __import__("os").path.exists(self.marker[3:]):
            raise RuntimeError("fixed later")
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)
"""


SLOW = FLAKY.replace(
    'if data.seed == 1 and __import__("os").path.exists(self.marker[3:]):\n            raise RuntimeError("fixed later")',
    """import fcntl, os, time
        global held  # as long as the process runs
        if "held" not in globals():
            held = os.open(f"{self.marker[3:]}.{os.getpid()}", os.O_CREAT | os.O_RDWR)
            fcntl.flock(held, fcntl.LOCK_EX)
        with open(self.marker[3:], "a") as log:  # short lines are appended whole
            log.write(f"{data.seed} {os.getpid()}\\n")
        time.sleep(0.4)""",
)


# A network small enough for hundreds of steps, with dropout.
SMALL = """
import torch
from vitbench.api import InputSpec
from vitbench.core.registry import register_backbone


class Small(torch.nn.Module):
    input, feature_dim = InputSpec(16, (0.5,) * 3, (0.5,) * 3), 12

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.GELU(), torch.nn.Conv2d(16, 12, 3, 2, 1), torch.nn.GELU(),
            torch.nn.Dropout(0.05), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )

    def features(self, images):
        return self.body(images)


@register_backbone("small")
def small():
    \"\"\"Two convolutions.\"\"\"
    return Small()
"""
