"""Random erasing as timm's `RandomErasing` in mode `pixel`: a part of an image becomes normally distributed noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.core.seeding import derived_seed, torch_generator

# TM:data/random_erasing.py: the part of the area, the ratio of height to width, and how often a part that fits is looked for.
AREA = (0.02, 1 / 3)
RATIO = (0.3, 1 / 0.3)
ATTEMPTS = 10

Box = tuple[int, int, int, int]  # top, left, height, width


def erase(images: Tensor, probability: float, seed: int, step: int, examples: NDArray[np.int64]) -> Tensor:
    """Normalised images (B, 3, H, W), each with a part replaced by noise with this probability."""
    parts: list[tuple[int, Box]] = []
    noise: list[Tensor] = []
    for row, example in enumerate(examples.tolist()):
        rng = np.random.default_rng([derived_seed(seed, "erase"), step, example])
        if box := random_part(probability, images.shape[2], images.shape[3], rng):
            pixels = torch.empty(images.shape[1], *box[2:])
            noise.append(pixels.normal_(generator=torch_generator(seed, f"erase {step} {example}")))
            parts.append((row, box))
    if not parts:
        return images
    found = images.clone()
    moved = torch.cat([each.flatten() for each in noise]).to(images.device)  # one copy to the device
    pieces = moved.split([each.numel() for each in noise])
    for (row, (top, left, tall, wide)), piece in zip(parts, pieces, strict=True):
        found[row, :, top : top + tall, left : left + wide] = piece.view(-1, tall, wide)
    return found


def random_part(probability: float, height: int, width: int, rng: np.random.Generator) -> Box | None:
    """The part of one image that is erased, if any."""
    if rng.random() > probability:
        return None
    for _ in range(ATTEMPTS):
        area = rng.uniform(*AREA) * height * width
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if wide < width and tall < height:
            top = int(rng.integers(0, height - tall + 1))
            return top, int(rng.integers(0, width - wide + 1)), tall, wide
    return None
