"""Preprocessing of decoded images to a backbone's input, fully described in each record.

Presets, which a suite names (docs/protocols.md#preprocessing-presets):
- `squash`: resize to S x S whatever the aspect ratio, tf2_bilinear; ViT's and BiT's evaluation
- `squash_tf1`: the same with tf1_bilinear, the legacy kernel of VTAB's released code
- `fewshot`: resize to a square of 8/7 S, truncate to uint8, centre crop S; big_vision's few-shot evaluation
- `resize_small`: shorter side to 7/6 S, method area, truncate to uint8, centre crop S; big_vision's transfer evaluation
- `dinov2_knn`: shorter side to 8/7 S, Pillow's bicubic, centre crop S; DINOv2's kNN evaluation (256 -> 224)
- `clip`: shorter side to S, Pillow's bicubic, centre crop S; CLIP's, and DINOv2's logistic regression (224 -> 224)
- `torchvision`: its weights' own; of other backbones shorter side to 8/7 S, Pillow's bilinear, centre crop S (256 -> 224)
- `timm_eval`: that of timm's configuration of the weights
- `centre_crop`: an old name, as `torchvision` of other backbones with other rounding of sides and offsets

The first four decode JPEGs with the fast DCT, TensorFlow's default and therefore that of the references; the others use the
accurate DCT, as Pillow does (docs/protocols.md#jpeg-decoding).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import floor
from typing import TYPE_CHECKING, Any, Literal

from vitbench.api import Backbone, EvaluationTransform, Pixels, Triple
from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import PreprocessName
from vitbench.core.lazy_import import lazy_module
from vitbench.data.geometry import Resize, Rounding, crop_range, resized_size

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


TORCHVISION = EvaluationTransform(crop_pct=224 / 256, interpolation="bilinear", library="torchvision")


@dataclass(frozen=True)
class Preprocess:
    """Decoding, resizing, rounding and cropping to (3, crop_px, crop_px) in [0, 255], uint8 unless `rounding` is none.

    `sides` says whose rounding of the longer side and of the crop's offset is followed, `border` the colour beyond the image.
    """

    resize_px: int
    resize: Resize
    kernel: Kernel
    crop_px: int
    rounding: Literal["none", "truncate", "nearest"]
    dct: Literal["accurate", "fast"]
    sides: Rounding = "big_vision"
    border: tuple[int, int, int] = (0, 0, 0)

    def describe(self, mean: Triple, std: Triple) -> str:
        """Describe everything between file and tensor in one line, for the record."""
        crop = "" if self.crop_px == self.resize_px and self.resize == "square" else f", {self._crop}"
        rounded = {"none": "", "truncate": ", cut to uint8", "nearest": ", rounded to uint8"}
        return (
            f"RGB, {self.dct} DCT, {self.kernel} to {self.resize_px} px {self.resize.replace('_', ' ')}"
            f"{rounded[self.rounding]}{crop}, (x/255 - {_short(mean)}) / {_short(std)}"
        )

    @property
    def _crop(self) -> str:
        beyond = f" on colour {self.border}" if self.resize == "longer_side" else ""
        whose = " as torchvision" if self.sides == "torchvision" else ""
        return f"centre crop {self.crop_px} px{beyond}{whose}"


def _short(triple: Triple) -> str:
    return f"{triple[0]:g}" if len(set(triple)) == 1 else "(" + ", ".join(map("{:g}".format, triple)) + ")"


def preset(name: PreprocessName, size_px: int, own: EvaluationTransform | None = None) -> Preprocess:
    """The preset of this name for an input size; `own` is what the publishers of the backbone's weights do.

    Raises:
        UsageError: `timm_eval` without an `own` transform in timm's terms.
    """
    enlarged = round(size_px * 8 / 7)  # 256 for 224, BV:configs/common_fewshot.py:49-57
    if name == "squash":
        return Preprocess(size_px, "square", "tf2_bilinear", size_px, "none", "fast")
    if name == "squash_tf1":
        return Preprocess(size_px, "square", "tf1_bilinear", size_px, "none", "fast")
    if name == "fewshot":
        return Preprocess(enlarged, "square", "tf2_bilinear", size_px, "truncate", "fast")
    if name == "resize_small":  # 448 for 384, BV:configs/transfer.py:100-113
        return Preprocess(round(size_px * 7 / 6), "shorter_side", "area", size_px, "truncate", "fast")
    if name == "centre_crop":
        return Preprocess(enlarged, "shorter_side", "pil", size_px, "nearest", "accurate")
    if name == "dinov2_knn":  # DN:dinov2/data/transforms.py:77-91
        return _as_torchvision(enlarged, size_px, "bicubic")
    if name == "clip":  # CL:clip/clip.py:79-86, DN:dinov2/eval/log_regression.py:376
        return _as_torchvision(size_px, size_px, "bicubic")
    if name == "torchvision":  # its weights state whole pixels, which the quotient gives back
        weights = own if own is not None and own.library == "torchvision" else TORCHVISION
        return _as_torchvision(round(size_px / weights.crop_pct), size_px, weights.interpolation)
    return _as_timm(size_px, own)


def _as_torchvision(
    resize_px: int,
    size_px: int,
    interpolation: Literal["bilinear", "bicubic"],
    resize: Resize = "shorter_side",
) -> Preprocess:
    kernel: Kernel = "pil_bicubic" if interpolation == "bicubic" else "pil"
    return Preprocess(resize_px, resize, kernel, size_px, "nearest", "accurate", "torchvision")


def _as_timm(size_px: int, own: EvaluationTransform | None) -> Preprocess:
    """As timm's `create_transform` builds it (TM:data/transforms_factory.py, transforms_imagenet_eval)."""
    if own is None or own.library != "timm":
        what = "`preprocess: timm_eval` needs a backbone of timm's, or one that declares `evaluation`"
        raise UsageError(Problem(what, next_step="choose `dinov2_knn`, `clip` or `torchvision`"))
    modes: dict[str, Resize] = {"center": "shorter_side", "squash": "square", "border": "longer_side"}
    how = _as_torchvision(floor(size_px / own.crop_pct), size_px, own.interpolation, modes[own.crop_mode])
    if own.crop_mode != "border":
        return how
    red, green, blue = (round(255 * value) for value in own.border)
    return replace(how, border=(red, green, blue))


def preset_of(name: PreprocessName, backbone: Backbone, size_px: int | None = None) -> Preprocess:
    """The preset of this name for a backbone, at its image size or another.

    Raises:
        UsageError: `timm_eval`, and the backbone does not say how its weights are evaluated.
    """
    own: EvaluationTransform | None = getattr(backbone, "evaluation", None)
    return preset(name, size_px or backbone.input.size_px, own)


def apply(images: Sequence[Pixels] | Pixels, how: Preprocess, device: str = "cpu") -> Tensor:
    """Preprocess images (H, W, 3) uint8 to a batch (B, 3, S, S) on `device`: uint8 if `how` rounds, else float32.

    They move to the device as uint8. An array (B, H, W, 3) is resized at once, which pays for small images; others one by one.
    """
    if isinstance(images, np.ndarray):
        return resized(torch.from_numpy(images).to(device), how)
    return fill(buffer(len(images), how, device), images, how)


def buffer(count: int, how: Preprocess, device: str, *, pinned: bool = False) -> Tensor:
    """An uninitialised batch for `count` preprocessed images, (B, 3, S, S); pinned, a GPU copies it without waiting."""
    kind = torch.float32 if how.rounding == "none" else torch.uint8
    shape = (count, how.crop_px, how.crop_px, 3)
    return torch.empty(shape, dtype=kind, device=device, pin_memory=pinned).permute(0, 3, 1, 2)


def moved(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device without waiting: from pageable memory the copy would wait for all queued kernels."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fill(batch: Tensor, images: Iterable[Pixels], how: Preprocess) -> Tensor:
    """Resize images into the rows of `batch`, one by one, while each is still in the processor's cache."""
    for row, image in enumerate(
        images
    ):  # rounded while it is copied: each operator waits for the interpreter's lock
        batch[row : row + 1].copy_(_levels(moved(image, batch.device)[None], how))
    return batch


def resized(batch: Tensor, how: Preprocess) -> Tensor:
    """Images of one size, (B, H, W, 3) uint8, preprocessed to (B, 3, S, S) where they are."""
    levels = _levels(batch, how)
    return levels if how.rounding == "none" else levels.to(torch.uint8)


def _levels(batch: Tensor, how: Preprocess) -> Tensor:
    """The same; where they are to be uint8, perhaps still as numbers of 0 to 255 whose fractions are to be cut off."""
    images = batch.permute(0, 3, 1, 2)
    own_height, own_width = images.shape[2:]
    height, width = resized_size(own_height, own_width, how.resize_px, how.resize, how.sides)
    rows, columns = (crop_range(side, how.crop_px, how.sides) for side in (height, width))
    inside = tuple(
        range(max(part.start, 0), min(part.stop, side)) for part, side in ((rows, height), (columns, width))
    )
    cropped = resize.KERNELS[how.kernel](images, (height, width), window=inside)
    if how.rounding == "none":
        return cropped
    whole = cropped.round() if how.rounding == "nearest" else cropped
    levels = whole.clamp(0, 255)
    if inside == (rows, columns):
        return levels
    return _on_border(
        levels.to(torch.uint8), how, inside[0].start - rows.start, inside[1].start - columns.start
    )


def _on_border(images: Tensor, how: Preprocess, top: int, left: int) -> Tensor:
    """Images that are too small for the crop, on the colour of the border."""
    height, width = images.shape[2:]
    full = buffer(len(images), how, f"{images.device}")
    for channel, level in enumerate(how.border):
        full[:, channel] = level
    full[:, :, top : top + height, left : left + width] = images
    return full


def normalise(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Normalise pixels (B, 3, S, S) in [0, 255] for a backbone: (x / 255 - mean) / std, float32."""
    if len(set(mean)) == len(set(std)) == 1:  # one number for all channels is several times as fast
        scale, shift = (float(each[0, 0]) for each in _scale_and_shift(mean, std, torch.device("cpu")))
        return images.float() * scale - shift
    factors, offsets = _scale_and_shift(mean, std, images.device)
    return images.float() * factors - offsets


@lru_cache(maxsize=64)
def _scale_and_shift(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factor and the offset of `normalise`; cached, because copying them to a GPU waits for it."""
    scale = torch.tensor([1 / (255 * value) for value in std], device=device)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.reshape(1, 3, 1, 1), shift.reshape(1, 3, 1, 1)
