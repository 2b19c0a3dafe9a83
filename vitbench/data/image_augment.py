"""Training augmentation of single images as timm's `create_transform` does it: crop, flip, RandAugment, on the CPU by Pillow.

Each image has a generator of its own, so that neither its batch nor the number of threads changes what is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitbench.core.seeding import derived_seed
from vitbench.data.rand_augment import RandAugment

# Random resized crop: TM:data/transforms.py, `RandomResizedCropAndInterpolation`, and torchvision's defaults.
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10

Box = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class ImageAugmentation:
    """What is drawn for each image. Without `crop`, the whole image is resized to a square; `fill` is RandAugment's colour."""

    crop: bool
    flip: bool
    rand_augment: RandAugment | None
    fill: tuple[int, int, int]

    def __call__(self, image: NDArray[np.uint8], size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """An image (H, W, 3), augmented, as (S, S, 3)."""
        height, width = image.shape[:2]
        top, left, tall, wide = random_box(height, width, rng) if self.crop else (0, 0, height, width)
        part = Image.fromarray(image).crop((left, top, left + wide, top + tall))
        found = part.resize((size_px, size_px), Image.Resampling.BICUBIC)
        if self.flip and rng.random() < 0.5:
            found = found.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.rand_augment is not None:
            found = self.rand_augment(found, self.fill, rng)
        return np.asarray(found)


def generator_of(seed: int, step: int, example: int) -> np.random.Generator:
    """The generator of one image in one step."""
    return np.random.default_rng([derived_seed(seed, "image"), step, example])


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """A part of 8 to 100 % of the area with sides of 3:4 to 4:3; after ten that do not fit, the largest in the middle."""
    for _ in range(ATTEMPTS):
        area = rng.uniform(*AREA) * height * width
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top = int(rng.integers(0, height - tall + 1))
            return top, int(rng.integers(0, width - wide + 1)), tall, wide
    wide = min(width, round(height * RATIO[1])) if width / height > RATIO[1] else width
    tall = min(height, round(width / RATIO[0])) if width / height < RATIO[0] else height
    return (height - tall) // 2, (width - wide) // 2, tall, wide
