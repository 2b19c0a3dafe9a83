"""How many images go through a backbone at once: by memory, a power of two, and less when memory runs out after all.

Nothing here is timed: a size that depended on how busy a machine is would make features differ in their last bits.
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

from vitbench.core.files import digest_bytes, read_checked, write_checked

ON_CPU = 64
LARGE_PX, LARGE_ON_CPU = 320, 16  # activations of large images leave the processor's caches
MOST = 512
TRIED = (4, 8)
SHARE = 0.6  # of the device's memory: the rest is for batches ahead, weights of others and fragmentation

Forward = Callable[[Tensor], Tensor]


@dataclass
class BatchSize:
    """The size for one model, resolution, precision and device; kept on disk once found."""

    device: str
    size_px: int
    facts: dict[str, Any]
    folder: Path
    size: int = field(default=0)

    def choose(self, forward: Forward) -> int:
        """Images at once; on a GPU found by trying two small batches and measuring their memory."""
        if self.size == 0:
            self.size = (
                self._on_cpu() if not self.device.startswith("cuda") else self._kept() or self._keep(forward)
            )
        return self.size

    def _on_cpu(self) -> int:
        return ON_CPU if self.size_px < LARGE_PX else LARGE_ON_CPU

    @property
    def _file(self) -> Path:
        facts = {**self.facts, "size_px": self.size_px, "device": torch.cuda.get_device_name(self.device)}
        return (
            self.folder / f"{digest_bytes(json.dumps(facts, sort_keys=True, default=str).encode())[:24]}.json"
        )

    def _kept(self) -> int:
        """The size found before; 0 if there is none, or not as it was written."""
        try:
            return int(json.loads(read_checked(self._file))["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _keep(self, forward: Forward) -> int:
        size = self.tried(forward)
        text = json.dumps({"size": size, **self.facts}, default=str)
        with contextlib.suppress(OSError):  # it is found again
            write_checked(self._file, text.encode("utf-8"))
        return size

    def tried(self, forward: Forward) -> int:
        """The size by the memory of two small batches on a GPU."""
        small, large = (self._peak_bytes(forward, count) for count in TRIED)
        total = torch.cuda.get_device_properties(self.device).total_memory
        return fitting((large - small) / (TRIED[1] - TRIED[0]), small, int(total))

    def _peak_bytes(self, forward: Forward, count: int) -> int:
        torch.cuda.reset_peak_memory_stats(self.device)
        forward(torch.zeros(count, 3, self.size_px, self.size_px, device=self.device))
        return int(torch.cuda.max_memory_allocated(self.device))

    def run(self, forward: Forward, images: Tensor) -> Tensor:
        """Forward, in halves when memory runs out; what fits is remembered.

        Raises:
            torch.OutOfMemoryError: not even one image fits.
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
                continue
            rest = rest[count:]
        return torch.cat(parts) if len(parts) != 1 else parts[0]


def fitting(bytes_per_image: float, bytes_small: int, total_bytes: int) -> int:
    """The largest power of two whose memory stays within the share, at least one, at most 512."""
    base = bytes_small - TRIED[0] * bytes_per_image
    room = (total_bytes * SHARE - base) / max(bytes_per_image, 1)
    largest: int = 2 ** max(int(room), 1).bit_length() // 2
    return min(largest, MOST)
