"""How long the rest of a run takes, from what its jobs have taken so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from vitbench.core.job import Cell
from vitbench.core.record import Record


class TimeLeft:
    """What jobs to come will take: the mean of finished ones of the same backbone, protocol and budget, or a wider circle."""

    def __init__(self, finished: Iterable[Record] = ()) -> None:
        self._sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for record in finished:
            self.add(record)

    def add(self, record: Record) -> None:
        """Learn from a job that has ended."""
        if record.cost is None:
            return
        for circle in _circles(record.job.cell):
            total = self._sums[circle]
            total[0] += record.cost.total_s
            total[1] += 1

    def seconds(self, cell: Cell) -> float | None:
        """What a job will take; None as long as nothing is known."""
        for circle in _circles(cell):
            total, count = self._sums.get(circle, (0.0, 0.0))
            if count:
                return total / count
        return None

    def remaining_s(self, cells: Iterable[Cell], workers: int) -> float | None:
        """What these jobs will take on so many workers; None if that cannot be known yet."""
        each = [self.seconds(cell) for cell in cells]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        return max(sum(known) / max(workers, 1), max(known, default=0.0))


def _circles(cell: Cell) -> tuple[tuple[str, ...], ...]:
    backbone, task, protocol, budget, _ = cell
    return (
        (backbone, protocol, budget, task),
        (backbone, protocol, budget),
        (protocol, budget),
        (protocol,),
        (),
    )
