"""Training augmentation: what a recipe asks for and a task allows; flips and crops of whole batches on the device.

How an example is augmented depends on the seed, the step and the example alone: not on its position in the batch, the
device, or the number of workers. A task's exclusions (docs/protocols.md#flips-and-crops) override what a recipe asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.core.seeding import derived_seed
from vitbench.data.preprocess import moved
from vitbench.data.rand_augment import MOVING, TURNING, RandAugment

# Inception crop as TensorFlow's op SampleDistortedBoundingBoxV2 draws it, whose defaults vit_jax uses for the aspect ratio (not
# quite 4/3) and the attempts (docs/protocols.md#training-augmentation).
AREA = (0.05, 1.0)
RATIO = (0.75, 1.33)
ATTEMPTS = 100

Crop = Literal[
    "none", "inception", "random", "random_resized", "random_resized_once"
]  # the last two: resized_crop.py
Purpose = Literal["flip", "crop"]
SPOILT = "the task's labels do not survive it"


@dataclass(frozen=True)
class Augmentation:
    """How training images are augmented. `random` crops a square of the target size out of larger images.

    RandAugment acts on images that a random resized crop has cut. `without`: what a task excludes, in words.
    """

    crop: Crop = "none"
    flip: bool = False
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    rand_augment: RandAugment | None = None
    erase: float = 0.0
    without: tuple[str, ...] = ()

    def allowed(self, *, flip: bool, crop: bool) -> Augmentation:
        """This augmentation without what a task excludes (docs/protocols.md#flips-and-crops).

        Without crops, images are resized directly. Where a label does not survive a flip, nothing turns or slants the image
        either; where it does not survive a crop, nothing moves the image or hides a part of it.
        """
        spared = () if flip and crop else TURNING if crop else (*TURNING, *MOVING)
        spoilt = (
            ("not flipped", not flip and self.flip),
            ("not cropped", not crop and self.crop != "none"),
            (f"RandAugment without {', '.join(spared)}", bool(spared and self.rand_augment)),
            ("no CutMix", not crop and self.cutmix_alpha > 0),
            ("no random erasing", not crop and self.erase > 0),
        )
        return replace(
            self,
            crop=self.crop if crop else "none",
            flip=self.flip and flip,
            cutmix_alpha=self.cutmix_alpha if crop else 0.0,
            rand_augment=self.rand_augment and replace(self.rand_augment, without=spared),
            erase=self.erase if crop else 0.0,
            without=tuple(f"{what}: {SPOILT}" for what, is_spoilt in spoilt if is_spoilt),
        )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that targets are class probabilities."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0


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
