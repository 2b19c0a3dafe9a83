"""The batch size of feature extraction: a power of two that fits the memory, halved if memory runs out.

Nothing here is timed: a size that depended on the load of the machine would change features in their last bits.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitbench.compute.meter import outside, start_peak
from vitbench.core.files import digest_bytes, read_checked, write_checked

ON_CPU = 64
LARGE_PX, LARGE_ON_CPU = 320, 16  # activations of large images do not fit the processor's caches
LARGEST = 512
PROBE_SIZES = (4, 8)
SHARE = 0.6  # of the device's memory; the rest is for prefetched batches, other weights and fragmentation

Forward = Callable[[Tensor], Tensor]


@dataclass
class BatchSize:
    """The batch size of one model, image size, precision and device; on a GPU it is measured once and cached on disk."""

    device: str
    size_px: int
    identity: dict[str, Any]
    folder: Path
    size: int = field(default=0)

    def choose(self, forward: Forward) -> int:
        """Return the batch size; on a GPU, from the memory of two small batches."""
        if self.size == 0:
            on_gpu = self.device.startswith("cuda")
            self.size = (self._cached() or self._measure_and_cache(forward)) if on_gpu else self._on_cpu()
        return self.size

    def _on_cpu(self) -> int:
        return ON_CPU if self.size_px < LARGE_PX else LARGE_ON_CPU

    @property
    def _file(self) -> Path:
        identity = {
            **self.identity,
            "size_px": self.size_px,
            "device": torch.cuda.get_device_name(self.device),
        }
        return (
            self.folder
            / f"{digest_bytes(json.dumps(identity, sort_keys=True, default=str).encode())[:24]}.json"
        )

    def _cached(self) -> int:
        """Return the cached size; 0 if there is none, or its file is damaged."""
        try:
            return int(json.loads(read_checked(self._file))["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _measure_and_cache(self, forward: Forward) -> int:
        size = self.measure(forward)
        self._cache(size)
        return size

    def _cache(self, size: int) -> None:
        text = json.dumps({"size": size, **self.identity}, default=str)
        with contextlib.suppress(OSError):  # it is measured again
            write_checked(self._file, text.encode("utf-8"))

    def measure(self, forward: Forward) -> int:
        """Measure the memory of two small batches on a GPU, and return the size that fits.

        Raises:
            torch.OutOfMemoryError: a single image does not fit.
        """
        peaks: list[int] = []
        with outside("warm-up"):
            for count in PROBE_SIZES:
                try:
                    peaks.append(self._peak_bytes(forward, count))
                except torch.OutOfMemoryError:
                    return self._largest_below(forward, count)
        small, large = peaks
        total = torch.cuda.get_device_properties(self.device).total_memory
        return fitting((large - small) / (PROBE_SIZES[1] - PROBE_SIZES[0]), small, int(total))

    def _largest_below(self, forward: Forward, count: int) -> int:
        """The largest power of two below `count` that runs: of a network that fills the memory with a few images."""
        while True:
            count //= 2
            torch.cuda.empty_cache()
            try:
                forward(torch.zeros(count, 3, self.size_px, self.size_px, device=self.device))
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                continue
            return count

    def _peak_bytes(self, forward: Forward, count: int) -> int:
        start_peak(self.device)
        forward(torch.zeros(count, 3, self.size_px, self.size_px, device=self.device))
        return int(torch.cuda.max_memory_allocated(self.device))

    def run(self, forward: Forward, images: Tensor) -> Tensor:
        """Forward pass; halves the batch size, for later batches and in the cache too, when memory runs out.

        Raises:
            torch.OutOfMemoryError: a single image does not fit.
        """
        parts = []
        rest = images
        while len(rest):
            count = min(self.size or len(rest), len(rest))
            try:
                parts.append(forward(rest[:count]))
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                self.size = 2 ** ((count - 1).bit_length() - 1)  # the next smaller power of two
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                    self._cache(self.size)
                continue
            rest = rest[count:]
        return torch.cat(parts) if len(parts) != 1 else parts[0]


def fitting(bytes_per_image: float, bytes_small: int, total_bytes: int) -> int:
    """The largest power of two whose memory stays within SHARE of the total, from 1 to 512."""
    base = bytes_small - PROBE_SIZES[0] * bytes_per_image
    room = (total_bytes * SHARE - base) / max(bytes_per_image, 1)
    largest: int = 2 ** max(int(room), 1).bit_length() // 2
    return min(largest, LARGEST)
