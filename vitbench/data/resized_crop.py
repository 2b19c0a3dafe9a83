"""Random resized crops as torchvision draws them, and as MAE does, cut and resized by Pillow (bicubic, antialiased).

Which box is cut depends on the seed, the step and the example alone, as in `augment`. References draw from other streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitbench.api import Pixels
from vitbench.data.augment import uniforms

Change = Callable[[Image.Image, int], Image.Image]  # of an image by its row in the batch
Kind = Literal["random_resized", "random_resized_once"]
KINDS: tuple[Kind, ...] = ("random_resized", "random_resized_once")

AREA = (0.08, 1.0)  # TV:transforms/transforms.py, RandomResizedCrop
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10  # the same; MAE:util/crop.py makes one attempt and clips it
IMAGES_PER_TASK = 8  # of one thread


def boxes(
    kind: Kind, sizes: NDArray[np.int64], seed: int, step: int, examples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Crop boxes (B, 4) as top, left, height, width in images of `sizes` (B, 2).

    An area is drawn uniformly, and the logarithm of an aspect ratio. `random_resized` draws again while the box does not fit,
    and takes the largest central box of an allowed ratio after ten attempts; `random_resized_once` clips its first box to the
    image.
    """
    if kind == "random_resized_once":
        return _drawn(sizes, uniforms(seed, step * ATTEMPTS, examples, 4, "crop"))
    found, is_open = _central(sizes), np.ones(len(sizes), dtype=bool)
    for attempt in range(ATTEMPTS):
        rows = np.flatnonzero(is_open)
        if len(rows) == 0:
            break
        draws = uniforms(seed, step * ATTEMPTS + attempt, examples[rows], 4, "crop")
        height, width = _sides(sizes[rows], draws)
        fits = (height > 0) & (width > 0) & (height <= sizes[rows, 0]) & (width <= sizes[rows, 1])
        found[rows[fits]] = _drawn(sizes[rows[fits]], draws[fits])
        is_open[rows[fits]] = False
    return found


def _sides(
    sizes: NDArray[np.int64], draws: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    area = sizes.prod(1) * (AREA[0] + draws[:, 0] * (AREA[1] - AREA[0]))
    low, high = np.log(RATIO)
    ratio = np.exp(low + draws[:, 1] * (high - low))
    return np.rint(np.sqrt(area / ratio)).astype(np.int64), np.rint(np.sqrt(area * ratio)).astype(np.int64)


def _drawn(sizes: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Boxes of the drawn sides, clipped to the image, anywhere in it. An image of a few pixels keeps one."""
    sides = np.clip(np.column_stack(_sides(sizes, draws)), 1, sizes)
    corners = (draws[:, 2:] * (sizes - sides + 1)).astype(np.int64)
    return np.column_stack([corners, sides])


def _central(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    height, width = sizes.T
    tall = np.where(width / height < RATIO[0], np.rint(width / RATIO[0]).astype(np.int64), height)
    wide = np.where(width / height > RATIO[1], np.rint(height * RATIO[1]).astype(np.int64), width)
    return np.column_stack([(height - tall) // 2, (width - wide) // 2, tall, wide])


def cut(image: Pixels, box: Sequence[int], size_px: int) -> Image.Image:
    """The box of an image (H, W, 3), resized to S x S by Pillow."""
    top, left, height, width = (int(value) for value in box)
    part = Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return part.resize((size_px, size_px), Image.Resampling.BICUBIC)


def cut_all(
    images: Sequence[Pixels],
    where: NDArray[Any],
    size_px: int,
    threads: Executor,
    mirrored: NDArray[np.bool_] | None = None,
    change: Change | None = None,
) -> Pixels:
    """The boxes `where` (B, 4) of as many images as (B, S, S, 3) uint8, in several threads.

    Those that are `mirrored` (B,) are flipped horizontally; `change` is what is done to each then, by its row.
    """
    found = np.empty((len(images), size_px, size_px, 3), dtype=np.uint8)

    def fill(first: int) -> None:
        for row in range(first, min(first + IMAGES_PER_TASK, len(images))):
            image = cut(images[row], where[row], size_px)
            if mirrored is not None and mirrored[row]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            found[row] = np.asarray(change(image, row) if change else image)

    list(threads.map(fill, range(0, len(images), IMAGES_PER_TASK)))
    return found
