"""Attentive heads: a learned query attends to all patch tokens, and a linear layer follows (CAPI:eval_classification.py).

The reference projects every token to a key and a value for every head. As the query does not depend on the image, the same
numbers come from projecting the query instead: attention weights a are softmax(x . W_k' q / sqrt(d)) over tokens x, as the
keys' bias adds the same to all of them, and the pooled value is W_v (sum of a x) + b_v, as the weights sum to 1. So thirty
heads cost a small part of one pass of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitbench.protocols.heads.recipe import HeadRecipe, Point
from vitbench.protocols.heads.stack import drawn

PART_WIDTH = 64  # of an attention head; CAPI:eval_classification.py, AttnPoolClassifier


class AttentionHeads:
    """K attentive heads (C classes) on tokens (B, T, D), each with `parts` attention heads."""

    def __init__(
        self, points: Sequence[Point], sample: Tensor, classes: int, recipe: HeadRecipe, seed: int
    ) -> None:
        self.points = points
        width = sample.shape[-1]
        self.parts = width // part_width(width)
        shapes: dict[str, tuple[int, ...]] = {
            "query": (width,), "key": (width, width), "value": (width, width), "value_bias": (width,),
            "weight": (classes, width), "bias": (classes,),
        }  # fmt: skip
        self.weights = drawn(points, shapes, recipe.init_std, seed, str(sample.device))

    def logits(self, read: Tensor) -> Tensor:
        """Class scores (B, K, C) of tokens (B, T, D)."""
        pooled = pool(read, self.weights, self.parts)
        return torch.einsum("bkd,kcd->bkc", pooled, self.weights["weight"]) + self.weights["bias"]

    def alone(self, which: int) -> dict[str, Tensor]:
        """The weights of one head."""
        return {name: weight[which].detach().clone() for name, weight in self.weights.items()}


def part_width(width: int) -> int:
    """The width of an attention head: 64, or the next larger divisor of the tokens' width; the reference takes 64 only."""
    return next((part for part in range(min(PART_WIDTH, width), width) if width % part == 0), width)


def pool(tokens: Tensor, weights: dict[str, Tensor], parts: int) -> Tensor:
    """Pooled values (B, K, D) of tokens (B, T, D) by K queries with stacked weights (K, ...)."""
    queries, width = weights["query"].shape
    each = width // parts
    key = weights["key"].view(queries, parts, each, width)
    value = weights["value"].view(queries, parts, each, width)
    asked = torch.einsum("khe,khed->khd", weights["query"].view(queries, parts, each), key) / each**0.5
    shares = (tokens @ asked.flatten(0, 1).T).softmax(dim=1)  # (B, T, K * parts), over tokens
    gathered = (shares.mT @ tokens).view(len(tokens), queries, parts, width)
    found = torch.einsum("bkhd,khed->bkhe", gathered, value).flatten(2)
    return found + weights["value_bias"]


def read_tokens(backbone: Any, images: Tensor, inputs: Sequence[str]) -> dict[str, Tensor]:
    """What attentive heads read of normalised images (B, 3, S, S): `patches`, or all `tokens`, (B, T, D) float32.

    Raises:
        UsageError: the backbone offers no tokens.
    """
    return {
        name: (
            backbone.tokens(images) if name == "tokens" else backbone.last_blocks(images, 1)[0].patches
        ).float()
        for name in inputs
    }
