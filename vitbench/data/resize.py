"""Resize kernels, each equal to the one it is named after: images (B, 3, H, W) to float32 (B, 3, h, w), 0 to 255.

The choice affects scores: on a photograph the three families differ by up to 180 grey levels
(docs/protocols.md#resize-kernels). Sizes are in pixels: one number for a square, or (height, width).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Size = int | tuple[int, int]
Kernel = Literal["tf2_bilinear", "tf1_bilinear", "area", "pil"]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def tf2_bilinear(images: Tensor, size: Size) -> Tensor:
    """`tf.image.resize`: half-pixel centres, no antialias, as in vit_jax, BiT and big_vision."""
    return F.interpolate(images.float(), _pair(size), mode="bilinear", align_corners=False)


def tf1_bilinear(images: Tensor, size: Size) -> Tensor:
    """`tf.compat.v1.image.resize`: source = target x scale, no half-pixel centres, no antialias, as in VTAB's released code.

    Positions are computed in float32, as in that op's source: in float64 the weights would differ by 1e-5.
    """
    height, width = _pair(size)
    return _two_tap(_two_tap(images.float(), height, dim=2), width, dim=3)


def _two_tap(images: Tensor, size: int, dim: int) -> Tensor:
    length = images.shape[dim]
    if size == length:
        return images
    scale = torch.tensor(length, dtype=torch.float32) / size
    position = torch.arange(size, dtype=torch.float32) * scale
    lower = position.floor()
    shape = [1, 1, 1, 1]
    shape[dim] = size
    weight = (position - lower).reshape(shape).to(images.device)
    first = lower.long().to(images.device)
    second = (first + 1).clamp(max=length - 1)
    near, far = images.index_select(dim, first), images.index_select(dim, second)
    return near + (far - near) * weight


def area(images: Tensor, size: Size) -> Tensor:
    """`tf.image.resize(method="area")`: the mean over the source box of each target pixel, with fractional edges.

    torch's mode "area" is a different operator: its boxes consist of whole pixels (up to 69 levels away).
    """
    height, width = _pair(size)
    rows = _box_weights(images.shape[2], height).to(images.device)
    columns = _box_weights(images.shape[3], width).to(images.device)
    return torch.einsum("hy,bcyx,wx->bchw", rows, images.float(), columns)


def _box_weights(length: int, size: int) -> Tensor:
    """Weights (size, length) of each source pixel in the box of each target pixel; rows sum to 1."""
    scale = length / size
    start = torch.arange(size, dtype=torch.float64)[:, None] * scale
    pixel = torch.arange(length, dtype=torch.float64)[None, :]
    overlap = (torch.minimum(start + scale, pixel + 1) - torch.maximum(start, pixel)).clamp(min=0)
    return (overlap / scale).float()


def pil(images: Tensor, size: Size, interpolation: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """Pillow's antialiased resize of uint8 images, as timm and torchvision evaluate; 0.03 % of values differ by one level."""
    if images.is_cuda:  # the antialiased kernel for uint8 exists on CPUs only: resize in float, then round
        exact = F.interpolate(images.float(), _pair(size), mode=interpolation, antialias=True)
        return exact.round().clamp(0, 255)
    last = images.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(last, _pair(size), mode=interpolation, antialias=True, align_corners=False)
    return resized.float()


KERNELS = {"tf2_bilinear": tf2_bilinear, "tf1_bilinear": tf1_bilinear, "area": area, "pil": pil}
