"""The robustness view of a board: accuracy on further test sets beside that in distribution, and effective robustness."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vitbench.core.record import Record
from vitbench.published.robustness import Baseline, baseline
from vitbench.report.cells import row_labels
from vitbench.report.keys import component_key
from vitbench.report.leaderboard import Board, Row

IMAGENET = "imagenet"  # the task whose test sets have a baseline


@dataclass(frozen=True)
class Shift:
    """One network on one further test set, in fractions, as means over seeds.

    `inside` is its accuracy on the task's own test images of the same classes; `effective` is by how much `outside` exceeds
    what a standard model of the same accuracy has, None where no baseline is known; `extrapolated`: none is as accurate.
    `relative_error` is that of ImageNet-C, 1 for AlexNet's.
    """

    inside: float
    outside: float
    low: float | None = None
    high: float | None = None
    effective: float | None = None
    extrapolated: bool = False
    relative_error: float | None = None


@dataclass(frozen=True)
class RobustnessRow:
    """A row of the board with its accuracy in distribution, and by test set; None where it has no score there."""

    row: Row
    inside: float
    shifts: tuple[Shift | None, ...]


@dataclass(frozen=True)
class RobustnessTable:
    """All rows with a further test set of one task: the names of the sets, and how many images and classes each has.

    `partial`: it lacks some of the task's classes.
    """

    task: str
    sets: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    rows: tuple[RobustnessRow, ...]
    baselines: tuple[Baseline | None, ...]
    partial: tuple[bool, ...]

    @property
    def any_effective(self) -> bool:
        """Whether effective robustness is known of any."""
        return any(shift and shift.effective is not None for row in self.rows for shift in row.shifts)

    @property
    def any_relative(self) -> bool:
        """Whether any set has an error relative to a reference network's."""
        return any(shift and shift.relative_error is not None for row in self.rows for shift in row.shifts)

    @property
    def any_extrapolated(self) -> bool:
        """Whether a network is more accurate than every standard model, or less."""
        return any(shift and shift.extrapolated for row in self.rows for shift in row.shifts)


def robustness(board: Board, records: Sequence[Record]) -> list[RobustnessTable]:
    """One table for each task of a board whose records have further test sets; `records` are the board's own."""
    by_task: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "ok":
            by_task.setdefault(record.job.task.digest, []).append(record)
    found = (_table(board, own, row_labels(records)) for own in by_task.values())
    return [table for table in found if table is not None]


def _table(board: Board, records: Sequence[Record], labels: dict[str, str]) -> RobustnessTable | None:
    sets = tuple(dict.fromkeys(name for record in records for name in record.test_sets))
    if not sets:
        return None
    own: dict[str, list[Record]] = {}
    for record in records:
        own.setdefault(labels[component_key(record.job.backbone)], []).append(record)
    rows = []
    for row in board.measured:
        seeds = own.get(row.backbone, [])
        if seeds:
            rows.append(RobustnessRow(row, _main(seeds), tuple(_shift(name, seeds) for name in sets)))
    facts = [next(record.test_sets[name] for record in records if name in record.test_sets) for name in sets]
    sizes = tuple((each.n, each.classes) for each in facts)
    task = records[0].job.task
    known = tuple(baseline(name) if task.name == IMAGENET else None for name in sets)
    partial = tuple(each.in_distribution is not None for each in facts)
    return RobustnessTable(task.label, sets, sizes, tuple(rows), known, partial)


def _main(records: Sequence[Record]) -> float:
    return statistics.fmean(next(iter(record.metrics.values())).value for record in records)


def _shift(name: str, records: Sequence[Record]) -> Shift | None:
    """The seeds of one network on one test set."""
    seeds = [record for record in records if name in record.test_sets]
    if not seeds:
        return None
    metrics = [record.metrics[name] for record in seeds]
    same = [record.test_sets[name].in_distribution for record in seeds]
    inside = [_main([record]) if own is None else own.value for record, own in zip(seeds, same, strict=True)]
    relative = [error for r in seeds if (error := r.test_sets[name].relative_error) is not None]
    known = baseline(name) if seeds[0].job.task.name == IMAGENET else None
    mean_in, mean_out = statistics.fmean(inside), statistics.fmean(metric.value for metric in metrics)
    return Shift(
        mean_in,
        mean_out,
        metrics[0].ci_low if len(metrics) == 1 else None,
        metrics[0].ci_high if len(metrics) == 1 else None,
        None if known is None else mean_out - known.expected(mean_in),
        known is not None and known.is_extrapolated(mean_in),
        statistics.fmean(relative) if relative else None,
    )
