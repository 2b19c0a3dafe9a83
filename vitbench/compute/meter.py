"""Seconds by phase, peak memory and energy of one job."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from vitbench.compute.energy import joules_so_far


@dataclass
class Meter:
    """Measures a job on one device; work still queued on a GPU counts to the phase that queued it."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        self._joules = joules_so_far(self.device)
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the block to a phase; phases add up and do not nest."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize(self.device)
            self.seconds[name] += time.perf_counter() - start

    def move(self, seconds: list[float], source: str, target: str) -> None:
        """Charge time that was measured inside one phase to another."""
        self.seconds[source] -= sum(seconds)
        self.seconds[target] += sum(seconds)

    def energy_joules(self) -> float | None:
        """What the GPU has taken since the meter was made, whoever used it; None where nothing counts that."""
        now = joules_so_far(self.device)
        return None if now is None or self._joules is None else now - self._joules

    def peak_memory_bytes(self) -> int:
        """Most device memory taken since the meter was made; on a CPU, the most that this process ever took."""
        if self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
