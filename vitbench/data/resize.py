"""Resize kernels, each equal to the one it is named after: images (B, 3, H, W) to float32 (B, 3, h, w), 0 to 255.

The choice affects scores: on a photograph the three families differ by up to 180 grey levels
(docs/protocols.md#resize-kernels). Sizes are in pixels: one number for a square, or (height, width). With a window only these
rows and columns of the resized image are returned; `area` and `pil` compute no others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitbench.data import pillow
from vitbench.data.pillow import Interpolation, Window

Size = int | tuple[int, int]
Kernel = Literal["tf2_bilinear", "tf1_bilinear", "area", "pil", "pil_bicubic"]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _whole(size: Size) -> Window:
    height, width = _pair(size)
    return range(height), range(width)


def tf2_bilinear(images: Tensor, size: Size, window: Window | None = None) -> Tensor:
    """`tf.image.resize`: half-pixel centres, no antialias, as in vit_jax, BiT and big_vision."""
    resized = F.interpolate(images.float(), _pair(size), mode="bilinear", align_corners=False)
    return _cut(resized, window or _whole(size))


def _cut(images: Tensor, window: Window) -> Tensor:
    rows, columns = window
    return images[:, :, rows.start : rows.stop, columns.start : columns.stop]


def tf1_bilinear(images: Tensor, size: Size, window: Window | None = None) -> Tensor:
    """`tf.compat.v1.image.resize`: source = target x scale, no half-pixel centres, no antialias, as in VTAB's released code.

    Positions are computed in float32, as in that op's source: in float64 the weights would differ by 1e-5.
    """
    height, width = _pair(size)
    resized = _two_tap(_two_tap(images.float(), height, dim=2), width, dim=3)
    return _cut(resized, window or _whole(size))


def _two_tap(images: Tensor, size: int, dim: int) -> Tensor:
    length = images.shape[dim]
    if size == length:
        return images
    first, second, weight = _neighbours(length, size, images.device)
    shape = [1, 1, 1, 1]
    shape[dim] = size
    near, far = images.index_select(dim, first), images.index_select(dim, second)
    return near + (far - near) * weight.reshape(shape)


@lru_cache(maxsize=256)
def _neighbours(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The source pixels (n,) before and after each target pixel, and the weight of the second."""
    position = np.arange(size, dtype=np.float32) * _scale(length, size)
    first = position.astype(np.int64)
    second = (first + 1).clip(max=length - 1)
    return _on(first, device), _on(second, device), _on(position - first.astype(np.float32), device)


def area(images: Tensor, size: Size, window: Window | None = None) -> Tensor:
    """`tf.image.resize(method="area")`: the mean over the source box of each target pixel, with fractional edges.

    Products and sums are in float32 and in TensorFlow's order, which decides on which side of an integer a sum of equal pixels
    falls (docs/protocols.md#resize-kernels). torch's mode "area" is a different operator: its boxes consist of whole pixels (up
    to 69 levels away).
    """
    rows, columns = window or _whole(size)
    height, width = _pair(size)
    length_y, length_x = images.shape[2:]
    across = _summed(images, 3, *_taps(length_x, width, columns, images.device))
    boxes = _summed(across, 2, *_taps(length_y, height, rows, images.device))
    box = _scale(length_y, height) * _scale(length_x, width)
    return boxes * float(np.float32(1.0 / np.float64(box)))


def _scale(length: int, size: int) -> np.float32:
    return np.float32(length) / np.float32(size)


def _summed(images: Tensor, dim: int, index: Tensor, weight: Tensor) -> Tensor:
    """The weighted sums over taps (K, n) along a dimension, first tap first; each product is rounded before it is added."""
    shape = [1, 1, 1, 1]
    shape[dim] = -1
    total = images.index_select(dim, index[0]).float() * weight[0].reshape(shape)
    for tap in range(1, len(index)):
        total = total + images.index_select(dim, index[tap]).float() * weight[tap].reshape(shape)
    return total


@lru_cache(maxsize=256)
def _taps(length: int, size: int, wanted: range, device: torch.device) -> tuple[Tensor, Tensor]:
    """Source pixels (K, n) in the boxes of the n wanted target pixels, and their weights, 0 beyond a box; float32 throughout.

    The rule is that of TensorFlow's kernel (docs/protocols.md#resize-kernels).
    """
    scale = _scale(length, size)
    target = np.asarray(wanted, dtype=np.float32)
    begin, end = target * scale, (target + 1) * scale
    first, stop = np.floor(begin).astype(np.int64), np.ceil(end).astype(np.int64)
    pixel = first + np.arange(max(int((stop - first).max()), 1))[:, None]
    left, right = pixel.astype(np.float32), (pixel + 1).astype(np.float32)
    whole = np.where(right > end, end - left, np.float32(1))
    weight = np.where(left < begin, np.where(right > end, scale, right - begin), whole)
    weight[pixel >= stop] = 0
    return _on(pixel.clip(0, length - 1), device), _on(weight, device)


def _on(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pil(
    images: Tensor, size: Size, interpolation: Interpolation = "bilinear", window: Window | None = None
) -> Tensor:
    """Pillow's antialiased resize of uint8 images, exactly, as torchvision and timm evaluate."""
    return pillow.resized(images, _pair(size), interpolation, window or _whole(size))


KERNELS: dict[Kernel, Callable[..., Tensor]] = {
    "tf2_bilinear": tf2_bilinear, "tf1_bilinear": tf1_bilinear, "area": area, "pil": pil,
    "pil_bicubic": partial(pil, interpolation="bicubic"),
}  # fmt: skip
