"""Training augmentation of whole batches on the device: flips, crops and MixUp.

How an example is augmented depends on the seed, the step and the example alone: not on its position in the batch, the
device, or the number of workers. A task's exclusions (docs/protocols.md#flips-and-crops) override what a recipe asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.core.seeding import derived_seed
from vitbench.data.preprocess import moved

# Inception crop as TensorFlow's op SampleDistortedBoundingBoxV2 draws it, whose defaults vit_jax uses for the aspect ratio (not
# quite 4/3) and the attempts (docs/protocols.md#training-augmentation).
AREA = (0.05, 1.0)
RATIO = (0.75, 1.33)
ATTEMPTS = 100

Crop = Literal["none", "inception", "random", "resized", "resized-once"]  # the last two: resized_crop.py
Purpose = Literal["flip", "crop", "mixup"]


@dataclass(frozen=True)
class Augmentation:
    """How training images are augmented. `random` crops a square of the target size out of larger images."""

    crop: Crop = "none"
    flip: bool = False
    mixup_alpha: float = 0.0

    def allowed(self, *, flip: bool, crop: bool) -> Augmentation:
        """This augmentation without what a task excludes; without crops, images are resized directly."""
        return Augmentation(self.crop if crop else "none", self.flip and flip, self.mixup_alpha)


def uniforms(
    seed: int, step: int, examples: NDArray[np.int64], draws: int, purpose: Purpose
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), (B, draws): row by row a function of (seed, step, example, purpose) alone.

    SplitMix64 (Steele et al. 2014) of the four: the same on every machine, whatever else is drawn.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(derived_seed(seed, purpose) & (2**64 - 1)) ^ _mixed(np.uint64(step))
        rows = _mixed(state + _mixed(examples.astype(np.uint64)))
        columns = np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mixed(rows[:, None] + columns[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(value: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    mixed = np.asarray(value) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def flips(seed: int, step: int, examples: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images are flipped horizontally, (B,): each with probability one half."""
    return np.asarray(uniforms(seed, step, examples, 1, "flip")[:, 0] < 0.5)


def flip(images: Tensor, seed: int, step: int, examples: NDArray[np.int64]) -> Tensor:
    """Flip each of the images (B, 3, H, W) horizontally with probability one half."""
    mirrored = moved(flips(seed, step, examples), images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def random_crop(images: Tensor, size_px: int, seed: int, step: int, examples: NDArray[np.int64]) -> Tensor:
    """A random square of `size_px` from each of the images (B, 3, H, W), which must be at least as large."""
    room = np.asarray(images.shape[2:]) - size_px
    if (room < 0).any():
        raise ValueError(f"a crop of {size_px} px does not fit into images of {tuple(images.shape[2:])} px")
    offsets = moved(crop_corners(room, seed, step, examples), images.device)
    span = torch.arange(size_px, device=images.device)
    rows, columns = offsets[:, :1] + span, offsets[:, 1:] + span
    batch = torch.arange(len(images), device=images.device)
    # indexing with (B, h, 1) and (B, 1, w) around a slice puts the channels last
    return images[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop_corners(
    room: NDArray[np.int64] | int, seed: int, step: int, examples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Top left corners of crops, (B, 2) as top and left, uniform from 0 to `room`."""
    corners = uniforms(seed, step, examples, 2, "crop") * (np.asarray(room) + 1)
    return np.asarray(corners, dtype=np.int64)


def inception_boxes(
    sizes: NDArray[np.int64], seed: int, step: int, examples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Crop boxes (B, 4) as top, left, height, width in images of `sizes` (B, 2), drawn as TensorFlow draws them.

    An aspect ratio is drawn uniformly, then a height among those that keep the area within bounds, then a position. After
    100 attempts that do not fit, the box is the whole image.
    """
    found = np.column_stack([np.zeros_like(sizes), sizes])
    open_rows = np.arange(len(sizes))
    for attempt in range(ATTEMPTS):
        if len(open_rows) == 0:
            break
        draws = uniforms(seed, step * ATTEMPTS + attempt, examples[open_rows], 4, "crop")
        boxes, fits = _boxes(sizes[open_rows], draws)
        found[open_rows[fits]] = boxes[fits]
        open_rows = open_rows[~fits]
    return found


def _boxes(
    sizes: NDArray[np.int64], draws: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    height, width = sizes[:, 0], sizes[:, 1]
    ratio = RATIO[0] + draws[:, 0] * (RATIO[1] - RATIO[0])
    least, most = (fraction * height * width for fraction in AREA)
    shortest = np.rint(np.sqrt(least / ratio)).astype(np.int64)
    tallest = np.rint(np.sqrt(most / ratio)).astype(np.int64)
    too_wide = np.rint(tallest * ratio) > width
    tallest = np.where(too_wide, ((width + 0.5 - 1e-7) / ratio).astype(np.int64), tallest)
    tallest = np.minimum(tallest, height)
    shortest = np.minimum(shortest, tallest)
    tall = shortest + (draws[:, 1] * (tallest - shortest + 1)).astype(np.int64)
    wide = np.rint(tall * ratio).astype(np.int64)
    tall += np.where(tall * wide < least, 1, 0)  # rounding may have left the area just outside
    wide = np.rint(tall * ratio).astype(np.int64)
    tall -= np.where(tall * wide > most, 1, 0)
    wide = np.rint(tall * ratio).astype(np.int64)
    area = tall * wide
    fits = (area >= least) & (area <= most) & (wide <= width) & (tall <= height) & (wide > 0) & (tall > 0)
    # TensorFlow draws the corner from [0, H - h), which excludes the last position.
    top = (draws[:, 2] * (height - tall)).astype(np.int64)
    left = (draws[:, 3] * (width - wide)).astype(np.int64)
    return np.column_stack([top, left, tall, wide]), fits


def mixup_weight(alpha: float, seed: int, step: int) -> float:
    """The mixing weight of a step: one draw from Beta(alpha, alpha) for all images (docs/protocols.md#bit-hyper-rule)."""
    return float(np.random.default_rng([derived_seed(seed, "mixup"), step]).beta(alpha, alpha))


def mixed(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """Images (B, …) or targets (B, C) mixed with others; BiT's TensorFlow code takes the same batch in reverse order."""
    return weight * one + (1 - weight) * other
