"""The weights of K heads that read the same, stacked: one product serves all of them, and each keeps its own rate and decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitbench.core.seeding import torch_generator
from vitbench.protocols.heads.recipe import Point

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Stack:
    """One weight of K heads (K, ...), with the heads' rates for a full learning rate and weight decays, (K,) each.

    `is_decayed` says whether any decay is not 0, so that nothing waits for the device to know.
    """

    weight: Tensor
    rates: Tensor
    decays: Tensor
    is_decayed: bool = True

    def along(self, values: Tensor) -> Tensor:
        """Values (K,) in a shape that multiplies the weights of each head."""
        return values.view(-1, *[1] * (self.weight.ndim - 1))


class Heads(Protocol):
    """K heads of one input. `weights` are named, biases by a name that ends in `bias`."""

    points: Sequence[Point]
    weights: dict[str, Tensor]

    def logits(self, read: Tensor) -> Tensor:
        """Class scores (B, K, C) of what the heads read."""
        ...

    def alone(self, which: int) -> dict[str, Tensor]:
        """The weights of one head."""
        ...


def drawn(points: Sequence[Point], shapes: Shapes, std: float, seed: int, device: str) -> dict[str, Tensor]:
    """New weights (K, ...) of heads, from a stream of each head's own: a head does not depend on which others there are.

    Normal, as the references' truncation at +-2 is hundreds of deviations away; biases are 0.
    """
    found = {name: torch.zeros(len(points), *shape) for name, shape in shapes.items()}
    for i, point in enumerate(points):
        name = f"head {point.reads} {point.base_lr!r} {point.weight_decay!r}"
        generator = torch_generator(seed, name)
        for weight, values in found.items():
            if not weight.endswith("bias"):
                values[i].normal_(0.0, std, generator=generator)
    return {name: values.to(device).requires_grad_() for name, values in found.items()}


def stacks_of(heads: Heads, batch_rate: float) -> list[Stack]:
    """The stacks of all weights, in their order; `batch_rate` is what a base rate is multiplied by for the batch."""
    found = []
    for name, weight in heads.weights.items():
        rates = torch.tensor([point.base_lr * batch_rate for point in heads.points], dtype=torch.float64)
        decays = torch.tensor([point.weight_decay for point in heads.points], dtype=torch.float64)
        if name.endswith("bias"):
            decays = torch.zeros_like(decays)
        found.append(Stack(weight, rates.to(weight), decays.to(weight), bool(decays.any())))
    return found
