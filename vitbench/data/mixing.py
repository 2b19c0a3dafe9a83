"""MixUp and CutMix of a batch with itself in reverse, one draw for all images, as timm's `Mixup` in mode `batch`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vitbench.core.seeding import derived_seed

Box = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Mix:
    """The weight of an image's own target and, for CutMix, the part that its partner fills."""

    weight: float
    box: Box | None = None

    def images(self, one: Tensor, other: Tensor) -> Tensor:
        """Images (B, 3, H, W), mixed with others."""
        if self.box is None:
            return self.weight * one + (1 - self.weight) * other
        top, bottom, left, right = self.box
        found = one.clone()
        found[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        return found

    def targets(self, one: Tensor, other: Tensor) -> Tensor:
        """Class probabilities (B, C), mixed with others."""
        return self.weight * one + (1 - self.weight) * other


def drawn(mixup_alpha: float, cutmix_alpha: float, size_px: int, seed: int, step: int) -> Mix:
    """The mix of a step: where both are positive, CutMix in half of the steps (docs/protocols.md#training-augmentation)."""
    if not cutmix_alpha:
        return Mix(mixup_weight(mixup_alpha, seed, step))
    rng = np.random.default_rng([derived_seed(seed, "cutmix"), step])
    if mixup_alpha and not rng.random() < 0.5:
        return Mix(float(rng.beta(mixup_alpha, mixup_alpha)))
    return cut(float(rng.beta(cutmix_alpha, cutmix_alpha)), size_px, rng)


def mixup_weight(alpha: float, seed: int, step: int) -> float:
    """MixUp's weight of a step: one draw from Beta(alpha, alpha) for all images (docs/protocols.md#bit-hyper-rule)."""
    return float(np.random.default_rng([derived_seed(seed, "mixup"), step]).beta(alpha, alpha))


def cut(weight: float, size_px: int, rng: np.random.Generator) -> Mix:
    """A square of 1 - weight of the area around a point drawn, as far as it is inside; the rest is the weight then."""
    side = int(size_px * math.sqrt(1 - weight))
    ends = []
    for _ in range(2):  # down, across
        middle = int(rng.integers(0, size_px))
        ends += [max(middle - side // 2, 0), min(middle + (side + 1) // 2, size_px)]
    top, bottom, left, right = ends
    return Mix(1.0 - (bottom - top) * (right - left) / size_px**2, (top, bottom, left, right))
