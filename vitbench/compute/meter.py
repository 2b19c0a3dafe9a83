"""Measure one job: seconds per phase, peak memory and energy."""

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
    """Measures a job on one device. GPU work counts towards the phase that queued it."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    images_forward: int = 0

    def __post_init__(self) -> None:
        self._nested: list[float] = []  # seconds of nested phases, one entry per open phase
        self._joules = joules_so_far(self.device)
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as a phase, excluding nested phases. Phases of the same name add up."""
        start = time.perf_counter()
        self._nested.append(0.0)
        try:
            yield
        finally:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize(self.device)
            elapsed = time.perf_counter() - start
            self.seconds[name] += elapsed - self._nested.pop()
            if self._nested:
                self._nested[-1] += elapsed

    def energy_joules(self) -> float | None:
        """Joules the GPU has used since the meter was created, including other processes; None if not available."""
        now = joules_so_far(self.device)
        return None if now is None or self._joules is None else now - self._joules

    def peak_memory_bytes(self) -> int:
        """Peak device memory in bytes since the meter was created; on a CPU, the peak of the whole process."""
        if self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
