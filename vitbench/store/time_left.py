"""The estimated time left of a run, from the durations of its finished jobs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from vitbench.core.job import JobLabels
from vitbench.core.record import Record


class TimeLeft:
    """Estimates durations: the mean of finished jobs of the same backbone, protocol, budget and task, else of a wider group."""

    def __init__(self, finished: Iterable[Record] = ()) -> None:
        self._sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for record in finished:
            self.add(record)

    def add(self, record: Record) -> None:
        """Include a finished job."""
        if record.cost is None:
            return
        for group in _groups(record.job.labels):
            total = self._sums[group]
            total[0] += record.cost.total_s
            total[1] += 1

    def seconds(self, labels: JobLabels) -> float | None:
        """Return the expected duration of a job; None while there are no finished jobs."""
        for group in _groups(labels):
            total, count = self._sums.get(group, (0.0, 0.0))
            if count:
                return total / count
        return None

    def remaining_s(self, jobs: Iterable[JobLabels], workers: int) -> float | None:
        """Return the expected duration of these jobs on a number of workers; None while it is unknown."""
        each = [self.seconds(labels) for labels in jobs]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        return max(math.fsum(known) / max(workers, 1), max(known, default=0.0))


def _groups(labels: JobLabels) -> tuple[tuple[str, ...], ...]:
    backbone, task, protocol, budget, _ = labels
    return (
        (backbone, protocol, budget, task),
        (backbone, protocol, budget),
        (protocol, budget),
        (protocol,),
        (),
    )
