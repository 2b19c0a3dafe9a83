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
    """Measures a job on one device. Work still queued on a GPU counts to the phase that queued it."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    images_forward: int = 0

    def __post_init__(self) -> None:
        self._within: list[float] = []  # seconds of inner phases, one entry per open phase
        self._joules = joules_so_far(self.device)
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the block to a phase, less what phases within it are charged. Phases of one name add up."""
        start = time.perf_counter()
        self._within.append(0.0)
        try:
            yield
        finally:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize(self.device)
            elapsed = time.perf_counter() - start
            self.seconds[name] += elapsed - self._within.pop()
            if self._within:
                self._within[-1] += elapsed

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
