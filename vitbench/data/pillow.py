"""Pillow's antialiased resize of uint8 images to the last level: by Pillow itself, or by the same integers on any device."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
Window = tuple[range, range]  # rows and columns

SUPPORT: dict[Interpolation, float] = {"bilinear": 1.0, "bicubic": 2.0}
ONE = 2**22  # weights are integers, in units of 2^-22 (docs/protocols.md#resize-kernels)
# Pillow 13 resizes the height first where it shrinks by more than twice as many pixels as the width (found by experiment).
HEIGHT_FIRST = int(pillow_version.partition(".")[0]) >= 13
# A resized image that is larger is not made whole: of a line of pixels only the window is computed.
MOST_PIXELS = 2**24
LONGEST_KEPT_PX = 8192  # of a side whose weights are kept: 7 MB at 224 px


def resized(images: Tensor, size: tuple[int, int], interpolation: Interpolation, window: Window) -> Tensor:
    """The rows and columns `window` of images (B, 3, H, W) uint8 resized to `size` (height, width): whole levels, float32."""
    if images.device.type != "cpu" or size[0] * size[1] > MOST_PIXELS:
        return in_two_passes(images, size, interpolation, window)
    rows, columns = window
    found = torch.empty(len(images), len(rows), len(columns), 3)
    method = Image.Resampling[interpolation.upper()]
    for image, target in zip(images.permute(0, 2, 3, 1).numpy(), found.numpy(), strict=True):
        whole = np.asarray(Image.fromarray(image).resize((size[1], size[0]), method))
        target[:] = whole[rows.start : rows.stop, columns.start : columns.stop]
    return found.permute(0, 3, 1, 2)


def in_two_passes(
    images: Tensor, size: tuple[int, int], interpolation: Interpolation, window: Window
) -> Tensor:
    """The same by matrix products: one side is resized and rounded to levels, then the other, in the installed Pillow's order.

    All terms are integers below 2^53, so float64 adds them without error in any order.
    """
    height, width = images.shape[2:]
    rows = _weights(height, size[0], interpolation, window[0], images.device).double()
    columns = _weights(width, size[1], interpolation, window[1], images.device).double()
    if HEIGHT_FIRST and 0 < height - size[0] > 2 * (width - size[1]):
        return _levels(_levels(rows @ images.double()) @ columns.T).float()
    return _levels(rows @ _levels(images.double() @ columns.T)).float()


def _levels(sums: Tensor) -> Tensor:
    """Sums of weighted levels rounded to the nearest level, halves up, within 0 and 255."""
    return ((sums + ONE // 2) / ONE).floor().clamp(0, 255)


def _weights(
    length: int, size: int, interpolation: Interpolation, wanted: range, device: torch.device
) -> Tensor:
    """The weights of a side, kept for the next image unless they are large."""
    make = _kept_weights if length <= LONGEST_KEPT_PX else _new_weights
    return make(length, size, interpolation, wanted, device)


def _new_weights(
    length: int, size: int, interpolation: Interpolation, wanted: range, device: torch.device
) -> Tensor:
    """Weights (n, length) of each source pixel in the n wanted target pixels: integers, which float32 holds exactly."""
    scale = length / size
    widened = max(scale, 1.0)
    centre = (np.asarray(wanted, dtype=np.float64) + 0.5) * scale
    support = SUPPORT[interpolation] * widened
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), length)
    pixel = first[:, None] + np.arange(int((stop - first).max()))
    weight = _filter(interpolation, (pixel - centre[:, None] + 0.5) * (1.0 / widened))
    weight[pixel >= stop[:, None]] = 0
    weight /= weight.cumsum(1)[:, -1:]  # added from left to right, as Pillow does
    whole = np.trunc(weight * ONE + np.copysign(0.5, weight))
    dense = np.zeros((len(wanted), length), dtype=np.float32)
    np.add.at(dense, (np.arange(len(wanted))[:, None], pixel.clip(max=length - 1)), whole)
    tensor = torch.from_numpy(dense)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


_kept_weights = lru_cache(maxsize=64)(_new_weights)


def _filter(interpolation: Interpolation, distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The triangle, or Keys' cubic with a = -0.5."""
    x = np.abs(distance)
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
