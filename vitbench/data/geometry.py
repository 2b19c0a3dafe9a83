"""How large an image becomes and where it is cut, to the pixel as each reference rounds (docs/protocols.md#sides-and-crops)."""

from __future__ import annotations

from typing import Literal

import numpy as np

Resize = Literal["square", "shorter_side", "longer_side"]
Rounding = Literal["big_vision", "torchvision"]  # whose


def resized_size(height: int, width: int, px: int, resize: Resize, whose: Rounding) -> tuple[int, int]:
    """The height and width of an image resized so that what `resize` names becomes `px`; at least one pixel each."""
    if resize == "square":
        return px, px
    if resize == "longer_side":  # TM:data/transforms.py, ResizeKeepRatio
        ratio = max(height / px, width / px)
        return max(round(height / ratio), 1), max(round(width / ratio), 1)
    shorter, longer = sorted((height, width))
    if whose == "torchvision":  # TV:transforms/functional.py, _compute_resized_output_size
        other = int(px * longer / shorter)
        return (px, other) if height <= width else (other, px)
    factor = np.float32(px) / np.float32(shorter)  # BV:pp/ops_image.py:93-131
    return round(float(np.float32(height) * factor)), round(float(np.float32(width) * factor))


def crop_range(side: int, crop: int, whose: Rounding) -> range:
    """The middle `crop` positions of a side; they begin before 0 where the side is shorter."""
    if whose == "big_vision":  # BV:pp/ops_image.py, get_central_crop
        start = (side - crop) // 2
    elif side < crop:  # TV:transforms/functional.py, center_crop
        start = -((crop - side) // 2)
    else:
        start = round((side - crop) / 2)
    return range(start, start + crop)
