"""Images of any sizes in one array on a device, so that a few operators crop and resize many of them at once.

Resizing a box to S x S reads 4 S^2 of its pixels, so the same look-ups serve all images of a batch, whatever their sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.api import Pixels
from vitbench.data.preprocess import moved

# Pixels that are looked up at once: few enough for a processor's cache, and enough to keep a GPU busy.
AT_ONCE_CPU, AT_ONCE_GPU = 2**18, 2**22


CHANNELS = 4  # of a pixel in memory, the last of which means nothing: one 32-bit number is looked up several times as fast


class PackedImages:
    """Images (H, W, 3) uint8 on a device, flattened row by row and concatenated: `pixels` (P,), of four bytes each."""

    def __init__(self, images: Iterable[Pixels], device: torch.device, expected: int = 0) -> None:
        """Copy images as they come; if `expected` is at least their number of pixels, none is copied twice."""
        sizes, used = [], 0
        pixels = np.empty((expected, CHANNELS), dtype=np.uint8)  # pages that are never written take no memory
        for image in images:
            sizes.append(image.shape[:2])
            end = used + image.shape[0] * image.shape[1]
            if end > len(pixels):
                larger = np.empty((2 * end, CHANNELS), dtype=np.uint8)
                larger[:used] = pixels[:used]
                pixels = larger
            pixels[used:end, :3] = image.reshape(-1, 3)
            used = end
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.begins = self.sizes.prod(1).cumsum() - self.sizes.prod(1)
        self.pixels = moved(pixels[:used].view(np.int32)[:, 0], device)

    def images(self, which: Sequence[int] | NDArray[np.int64]) -> list[Pixels]:
        """The images `which` as they were, (H, W, 3) uint8, without copying; of images on the CPU."""
        pixels = self.pixels.numpy().view(np.uint8).reshape(-1, CHANNELS)[:, :3]
        return [
            pixels[begin : begin + height * width].reshape(height, width, 3)
            for begin, (height, width) in zip(self.begins[which], self.sizes[which], strict=True)
        ]

    def resized(
        self,
        which: Sequence[int] | NDArray[np.int64],
        boxes: NDArray[Any],
        size_px: int,
        *,
        cut_first: bool,
        mirrored: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """Crop boxes (B, 4), as top, left, height, width, of the images `which`, resized to (B, 3, S, S) float32.

        TensorFlow 2's bilinear, half-pixel centres, no antialias. With `cut_first` only pixels inside a box are read. Without
        it the result is as if the whole image had been resized before cropping, and boxes need not start on a pixel. Those that
        are `mirrored` (B,) are flipped horizontally.
        """
        sizes, device = self.sizes[which], self.pixels.device
        if cut_first:
            first, room, starts = boxes[:, :2], boxes[:, 2:], np.zeros((len(boxes), 2))
        else:
            first, room, starts = np.zeros_like(sizes), sizes, boxes[:, :2]
        whole = np.column_stack([self.begins[which], sizes[:, 1], first, room - 1]).astype(np.int64)
        parts = np.column_stack([starts, boxes[:, 2:]]).astype(np.float64)
        several = max((AT_ONCE_GPU if device.type == "cuda" else AT_ONCE_CPU) // size_px**2, 1)
        steps = (torch.arange(size_px, device=device, dtype=torch.float64) + 0.5) / size_px
        flips = np.zeros(len(boxes), dtype=np.bool_) if mirrored is None else mirrored
        wholes, partials, mirrors = (moved(each, device).split(several) for each in (whole, parts, flips))
        groups = zip(wholes, partials, mirrors, strict=True)
        found = torch.cat([self._looked_up(*group, steps) for group in groups])
        return found[..., :3].permute(0, 3, 1, 2)

    def _looked_up(self, whole: Tensor, parts: Tensor, flips: Tensor, steps: Tensor) -> Tensor:
        """The boxes of some images, resized to (B, S, S, CHANNELS)."""
        begin, width, top, left, lowest, rightmost = whole[:, :, None].unbind(1)
        above, below, down = _neighbours(parts[:, 0:1] + parts[:, 2:3] * steps - 0.5, lowest)
        sideways = _neighbours(parts[:, 1:2] + parts[:, 3:4] * steps - 0.5, rightmost)
        before, after, across = (torch.where(flips[:, None], each.flip(1), each) for each in sideways)
        weight = (
            across[:, None, :, None].expand(-1, -1, -1, CHANNELS).contiguous()
        )  # for whole rows at a time
        rows = [(begin + (top + y) * width)[:, :, None] for y in (above, below)]
        columns = [(left + x)[:, None, :] for x in (before, after)]
        lines = [self._at(row + columns[0]).lerp_(self._at(row + columns[1]), weight) for row in rows]
        return lines[0].lerp_(lines[1], down[:, :, None, None])

    def _at(self, positions: Tensor) -> Tensor:
        found = self.pixels.index_select(0, positions.flatten())
        return found.view(torch.uint8).view(*positions.shape, CHANNELS).float()


def _neighbours(position: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each position (B, S), both within 0 and `last` (B, 1), and the second one's weight."""
    position = position.clamp_min(0).minimum(last)
    before = position.floor()
    weight = (position - before).float()
    before = before.long()
    return before, (before + 1).minimum(last), weight
