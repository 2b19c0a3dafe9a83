"""Preprocessing of decoded images to a backbone's input, fully described in each record.

Five presets, which a suite names:
- `squash`: resize to S x S whatever the aspect ratio, tf2_bilinear; ViT's and BiT's evaluation
- `squash_tf1`: the same with tf1_bilinear, the legacy kernel of VTAB's released code
- `fewshot`: resize to a square of 8/7 S, truncate to uint8, centre crop S; big_vision's few-shot evaluation
- `resize_small`: shorter side to 7/6 S, method area, truncate to uint8, centre crop S; big_vision's transfer evaluation
- `centre_crop`: shorter side to 8/7 S, antialiased as in Pillow, centre crop S; the usual ImageNet evaluation (256 -> 224)

All but the last decode JPEGs with the fast DCT, TensorFlow's default and therefore that of the references; the last uses the
accurate DCT, as Pillow and torchvision do (docs/protocols.md#jpeg-decoding).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from vitbench.api import Pixels, Triple
from vitbench.core.job import PreprocessName
from vitbench.core.lazy_import import lazy_module

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vitbench.data import resize
    from vitbench.data.resize import Kernel
else:
    np = lazy_module("numpy")
    torch = lazy_module("torch")
    resize = lazy_module("vitbench.data.resize")


@dataclass(frozen=True)
class Preprocess:
    """Decoding, resizing, rounding and cropping to (3, crop_px, crop_px) in [0, 255], uint8 unless `rounding` is none."""

    resize_px: int
    resize: Literal["square", "shorter_side"]
    kernel: Kernel
    crop_px: int
    rounding: Literal["none", "truncate", "nearest"]
    dct: Literal["accurate", "fast"]

    def describe(self, mean: Triple, std: Triple) -> str:
        """Describe everything between file and tensor in one line, for the record."""
        crop = "" if self.crop_px == self.resize_px else f", centre crop {self.crop_px} px"
        shape = "square" if self.resize == "square" else "shorter side"
        rounded = {"none": "", "truncate": ", cut to uint8", "nearest": ", rounded to uint8"}
        return (
            f"RGB, {self.dct} DCT, {self.kernel} to {self.resize_px} px {shape}{rounded[self.rounding]}{crop}, "
            f"(x/255 - {_short(mean)}) / {_short(std)}"
        )


def _short(triple: Triple) -> str:
    return f"{triple[0]:g}" if len(set(triple)) == 1 else "(" + ", ".join(map("{:g}".format, triple)) + ")"


def preset(name: PreprocessName, size_px: int) -> Preprocess:
    """The preset of this name for an input size."""
    enlarged = round(size_px * 8 / 7)  # 256 for 224, BV:configs/common_fewshot.py:49-57
    if name == "squash":
        return Preprocess(size_px, "square", "tf2_bilinear", size_px, "none", "fast")
    if name == "squash_tf1":
        return Preprocess(size_px, "square", "tf1_bilinear", size_px, "none", "fast")
    if name == "fewshot":
        return Preprocess(enlarged, "square", "tf2_bilinear", size_px, "truncate", "fast")
    if name == "resize_small":  # 448 for 384, BV:configs/transfer.py:100-113
        return Preprocess(round(size_px * 7 / 6), "shorter_side", "area", size_px, "truncate", "fast")
    return Preprocess(enlarged, "shorter_side", "pil", size_px, "nearest", "accurate")


def apply(images: Sequence[Pixels] | Pixels, how: Preprocess, device: str = "cpu") -> Tensor:
    """Preprocess images (H, W, 3) uint8 to a batch (B, 3, S, S) on `device`: uint8 if `how` rounds, else float32.

    They move to the device as uint8. An array (B, H, W, 3) is resized at once, which pays for small images; others one by one.
    """
    if isinstance(images, np.ndarray):
        return _resized(torch.from_numpy(images).to(device), how)
    return fill(buffer(len(images), how, device), images, how)


def buffer(count: int, how: Preprocess, device: str) -> Tensor:
    """An uninitialised batch for `count` preprocessed images, (B, 3, S, S)."""
    kind = torch.float32 if how.rounding == "none" else torch.uint8
    shape = (count, 3, how.crop_px, how.crop_px)
    return torch.empty(shape, dtype=kind, device=device, memory_format=torch.channels_last)


def moved(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device without waiting: from pageable memory the copy would wait for all queued kernels."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fill(batch: Tensor, images: Iterable[Pixels], how: Preprocess) -> Tensor:
    """Resize images into the rows of `batch`, one by one, while each is still in the processor's cache."""
    for row, image in enumerate(images):
        batch[row] = _resized(moved(image, batch.device)[None], how)[0]
    return batch


def _resized(batch: Tensor, how: Preprocess) -> Tensor:
    images = batch.permute(0, 3, 1, 2)
    height, width = images.shape[2:]
    if how.resize == "square":
        size = (how.resize_px, how.resize_px)
    else:
        shorter = min(height, width)
        size = (round(height * how.resize_px / shorter), round(width * how.resize_px / shorter))
    resized = resize.KERNELS[how.kernel](images, size)
    top, left = (size[0] - how.crop_px) // 2, (size[1] - how.crop_px) // 2
    cropped = resized[:, :, top : top + how.crop_px, left : left + how.crop_px]
    if how.rounding == "none":
        return cropped
    whole = cropped.round() if how.rounding == "nearest" else cropped
    return whole.clamp(0, 255).to(torch.uint8)


def normalise(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Normalise pixels (B, 3, S, S) in [0, 255] for a backbone: (x / 255 - mean) / std, float32."""
    scale, shift = _scale_and_shift(mean, std, images.device)
    return images.float() * scale - shift


@lru_cache(maxsize=64)
def _scale_and_shift(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factor and the offset of `normalise`; cached, because copying them to a GPU waits for it."""
    scale = torch.tensor([1 / (255 * value) for value in std], device=device)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.reshape(1, 3, 1, 1), shift.reshape(1, 3, 1, 1)
