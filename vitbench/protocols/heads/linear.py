"""Linear heads, and what they read: class tokens of the last blocks, mean patch tokens, or the backbone's own features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitbench.core.errors import Problem, UsageError
from vitbench.core.tokens import Tokens
from vitbench.protocols.heads.recipe import HeadRecipe, Point
from vitbench.protocols.heads.stack import drawn


class LinearHeads:
    """K linear heads (C classes) on rows (B, D)."""

    def __init__(
        self, points: Sequence[Point], sample: Tensor, classes: int, recipe: HeadRecipe, seed: int
    ) -> None:
        self.points = points
        shapes: dict[str, tuple[int, ...]] = {"weight": (classes, sample.shape[-1]), "bias": (classes,)}
        self.weights = drawn(points, shapes, recipe.init_std, seed, str(sample.device))

    def logits(self, read: Tensor) -> Tensor:
        """Class scores (B, K, C) of rows (B, D)."""
        weight, bias = self.weights["weight"], self.weights["bias"]
        scores = read @ weight.flatten(0, 1).T
        return scores.view(len(read), *bias.shape) + bias

    def alone(self, which: int) -> dict[str, Tensor]:
        """Matrix (C, D) and bias (C,) of one head."""
        return {name: weight[which].detach().clone() for name, weight in self.weights.items()}


def read_rows(backbone: Any, images: Tensor, inputs: Sequence[str]) -> dict[str, Tensor]:
    """What linear heads read of normalised images (B, 3, S, S), by name, (B, D) float32 each.

    `class-N` are the class tokens of the last N blocks, first block first, `mean` is the mean patch token of the last block;
    all after the final norm, registers left out (DN:dinov2/eval/linear.py, create_linear_input). `features` are the backbone's
    own.

    Raises:
        UsageError: the backbone has no class token, or no such blocks.
    """
    counts = [_blocks_of(name) for name in inputs if name != "features"]
    blocks = backbone.last_blocks(images, max(counts)) if counts else ()
    return {name: _row(name, backbone, images, blocks).float() for name in inputs}


def _blocks_of(name: str) -> int:
    """How many blocks an input reads."""
    _, _, count = name.removesuffix("+mean").partition("-")
    return int(count or 1)


def _row(name: str, backbone: Any, images: Tensor, blocks: Sequence[Tokens]) -> Tensor:
    if name == "features":
        found: Tensor = backbone.features(images)
        return found
    parts = [] if name == "mean" else [_class_token(block) for block in blocks[-_blocks_of(name) :]]
    if name.endswith("mean"):
        parts.append(blocks[-1].patches.mean(1))
    return torch.cat(parts, dim=1)


def _class_token(block: Tokens) -> Tensor:
    if block.class_token is None:
        raise UsageError(
            Problem(
                "linear_probe: this backbone has no class token",
                next_step="state `inputs: mean`, the mean patch token, or `inputs: features`, its classifier's input",
            )
        )
    return block.class_token
