"""Measure a job: seconds, energy and peak memory by phase, each without the phases nested in it.

Code deep inside a job does not know its meter. It marks what is no part of the job's cost with `outside`, which acts on the
meter whose phase is open in this thread, if there is one.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import torch

from vitbench.compute.energy import joules_so_far
from vitbench.compute.memory import peak_bytes, reset_peak, return_unused
from vitbench.core.cost import OUTSIDE, Extraction, Outside


@dataclass
class Span:
    """What a phase took, without nested phases but for memory.

    `seconds` on the clock, `core_seconds` of all threads of the process, `joules` of the device (None: unknown), and the
    highest memory in bytes.
    """

    seconds: float = 0.0
    core_seconds: float = 0.0
    joules: float | None = 0.0
    peak_bytes: int = 0

    def add(self, other: Span) -> None:
        """Add to the sums; a sum with something unknown is unknown."""
        self.seconds += other.seconds
        self.core_seconds += other.core_seconds
        self.joules = None if self.joules is None or other.joules is None else self.joules + other.joules

    def since(self, earlier: Span) -> Span:
        """Return what has been added after `earlier`."""
        known = self.joules is not None and earlier.joules is not None
        joules = self.joules - earlier.joules if known else None  # type: ignore[operator]
        return Span(self.seconds - earlier.seconds, self.core_seconds - earlier.core_seconds, joules)


@dataclass
class Meter:
    """Measures a job on one device.

    `extractions` are the features that the job has read, by their key in the cache. `others_bytes`, of what the process
    holds for other jobs, are no part of the job's memory.
    """

    device: str
    images_forward: int = 0
    others_bytes: int = 0
    phases: dict[str, Span] = field(default_factory=lambda: defaultdict(Span))
    extractions: dict[str, Extraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open: list[Span] = []
        # The clocks and the energy counter when the innermost phase last began or went on.
        self._since = Span(time.perf_counter(), time.process_time(), joules_so_far(self.device))
        return_unused(self.device)
        reset_peak(self.device)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of every phase."""
        return {name: span.seconds for name, span in self.phases.items()}

    @contextlib.contextmanager
    def phase(self, name: str, *, waits: bool = True) -> Iterator[Span]:
        """Measure the block as a phase, excluding nested phases. Phases of the same name add up.

        The device finishes its queue before and after, so that its work counts towards the phase that queued it; without
        `waits` it does not, for blocks that leave the device alone. The span is complete when the block has ended.
        """
        span = Span()
        self._charge(waits)
        self._open.append(span)
        token = _CURRENT.set(self)
        try:
            yield span
        finally:
            _CURRENT.reset(token)
            self._charge(waits)
            self._open.pop()
            total = self.phases[name]
            total.add(span)
            total.peak_bytes = max(total.peak_bytes, span.peak_bytes)

    def _charge(self, waits: bool) -> None:
        """Add what has passed since the last call to the innermost open phase, and the peak to all open ones."""
        if waits:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize(self.device)
            self.keep_peak()
        joules = joules_so_far(self.device) if waits else self._since.joules
        now = Span(time.perf_counter(), time.process_time(), joules)
        if self._open:
            self._open[-1].add(now.since(self._since))
        self._since = now

    def keep_peak(self) -> None:
        """Remember the peak so far for all open phases, and reset the device's counter."""
        peak = max(peak_bytes(self.device) - self.others_bytes, 0)
        for span in self._open:
            span.peak_bytes = max(span.peak_bytes, peak)
        reset_peak(self.device)

    def so_far(self) -> Span:
        """What the innermost open phase has taken so far."""
        self._charge(waits=True)
        return replace(self._open[-1])

    def credit(self, taken: Span) -> None:
        """Add what the innermost open phase took in an earlier attempt at the job."""
        self._open[-1].add(taken)

    def move(self, core_seconds: float, phase: str) -> None:
        """Count core-seconds of the innermost open phase in another one."""
        self._charge(waits=False)
        self._open[-1].core_seconds -= core_seconds
        self.phases[phase].core_seconds += core_seconds

    def peak_memory_bytes(self) -> int:
        """Return the highest memory in the phases that count towards the cost, whoever extracted the features."""
        phases = (span.peak_bytes for name, span in self.phases.items() if name not in OUTSIDE)
        features = (each.peak_memory_bytes or 0 for each in self.extractions.values())
        return max((*phases, *features), default=0)


_CURRENT: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextlib.contextmanager
def outside(phase: Outside, *, waits: bool = True) -> Iterator[None]:
    """Within the block, the job being measured in this thread, if any, is in a phase that is not part of its cost."""
    meter = _CURRENT.get()
    with meter.phase(phase, waits=waits) if meter else contextlib.nullcontext():
        yield


def start_peak(device: str) -> None:
    """Start measuring a peak of one's own, without losing that of the job being measured in this thread."""
    meter = _CURRENT.get()
    if meter is not None:
        meter.keep_peak()
    else:
        reset_peak(device)


def so_far() -> Span:
    """What the innermost phase of the job being measured in this thread has taken so far."""
    meter = _CURRENT.get()
    return Span() if meter is None else meter.so_far()


def credit(taken: Span) -> None:
    """Count what an earlier attempt took as part of the job being measured in this thread."""
    meter = _CURRENT.get()
    if meter is not None:
        meter.credit(taken)


def move(core_seconds: float, phase: Outside) -> None:
    """Count what another thread has computed as a phase that is no part of the cost of the job measured in this thread."""
    meter = _CURRENT.get()
    if meter is not None:
        meter.move(core_seconds, phase)
