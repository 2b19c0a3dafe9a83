"""A step of a whole grid of heads against a step of one head: `python tests/benchmarks/linear_heads.py [MODEL] [--batch B]`.

DINOv2's 52 linear heads (of which 26 read four blocks) and CAPI's 30 attentive ones, on 1,000 classes, over the same frozen
network with initial weights, on random images that are there already. Same run, interleaved rounds, medians. Target for the
linear heads: 1.2. `--device cuda --dtype bfloat16 --batch 1024` is how a GPU would train them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.environment import settle
from vitbench.core.registry import BACKBONES
from vitbench.engine.components import load_all
from vitbench.protocols.heads.probe import KINDS
from vitbench.protocols.heads.recipe import Kind, recipe_of
from vitbench.protocols.heads.trainer import HeadTrainer

CLASSES = 1000
GRIDS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "dinov2": ("linear", {"inputs": "class", "base_lr": 0.01}),
    "capi": ("attentive", {"base_lr": 0.001, "weight_decay": 0.001}),
}


def trainer(name: str, backbone: BuiltBackbone, batch: int, dtype: str, *, alone: bool) -> HeadTrainer:
    """A trainer of a recipe's whole grid, or of one head."""
    kind, one = GRIDS[name]
    recipe = recipe_of(name, {"batch_size": batch, **(one if alone else {})})
    device, size_px = str(next(backbone.parameters()).device), backbone.input.size_px

    @torch.no_grad()
    def read(images: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return KINDS[kind].read(backbone, images, recipe.inputs)

    sample = read(torch.zeros(1, 3, size_px, size_px, device=device))
    points = {name: [p for p in recipe.points() if p.reads == name] for name in recipe.inputs}
    heads = {name: KINDS[kind].make(each, sample[name], CLASSES, recipe, 0) for name, each in points.items()}
    return HeadTrainer(heads, read, recipe, size_px)


def seconds(made: HeadTrainer, images: torch.Tensor, labels: torch.Tensor, steps: int) -> float:
    """Seconds of so many steps."""
    begun = time.perf_counter()
    for _ in range(steps):
        made.step(images, labels)
    made.losses[-1].sum().item()  # waits for the device
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="vit_small_patch16_224")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    load_all()
    settle(None)
    entry, module = BACKBONES.make(f"timm:{options.model}", {"pretrained": False})
    backbone = BuiltBackbone(module, options.model, entry.labels).to(options.device).eval()
    size_px = backbone.input.size_px
    images = torch.randn(options.batch, 3, size_px, size_px, device=options.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (options.batch,), device=options.device)
    for name in GRIDS:
        both = [trainer(name, backbone, options.batch, options.dtype, alone=alone) for alone in (True, False)]
        measure = partial(seconds, images=images, labels=labels, steps=options.steps)
        for made in both:
            measure(made, steps=1)
        rounds = [tuple(measure(made) for made in both) for _ in range(options.rounds)]
        one, grid = (statistics.median(times) / options.steps for times in zip(*rounds, strict=True))
        ratio = statistics.median(whole / single for single, whole in rounds)
        print(
            f"{name}: {options.model} at {size_px} px, batch {options.batch}, {options.device}: one head {one:.3f} s a step, "
            f"{len(both[1].points)} heads {grid:.3f} s: {ratio:.3f} times"
            + (" (target 1.2)" if name == "dinov2" else "")
        )


if __name__ == "__main__":
    main()
