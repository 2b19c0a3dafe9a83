"""The images that a backbone expects, and how the publishers of its weights prepare them when they evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputSpec:
    """The images that a backbone expects: square, `size_px` wide, pixels (x / 255 - mean) / std."""

    size_px: int
    mean: Triple
    std: Triple


@dataclass(frozen=True)
class EvaluationTransform:
    """How the publishers of the weights resize and crop images to S x S, in timm's terms: `preprocess: timm_eval` follows it.

    Images are resized to floor(S / `crop_pct`), then S x S is cut from the centre. `crop_mode` says what gets that size: the
    shorter side (`center`), both sides whatever the aspect ratio (`squash`), or the longer side (`border`, which fills the rest
    with `border`, a colour in [0, 1]). Beyond the image (`crop_pct` above 1) it is black. Mean and std are those of InputSpec.
    `library` says whose rule it is: torchvision's weights have theirs, which `preprocess: torchvision` follows.
    """

    crop_pct: float
    interpolation: Literal["bilinear", "bicubic"]
    crop_mode: Literal["center", "squash", "border"] = "center"
    border: Triple = (0.0, 0.0, 0.0)
    library: Literal["timm", "torchvision"] = "timm"
