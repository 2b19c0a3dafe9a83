"""Records to what a page shows: a board per setting, an overview, shots curves and failures.

A setting is a protocol under a budget (and everything else that must agree for numbers to be compared). No mean is ever taken
over missing cells: an incomplete row is shown, not ranked.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vitbench.records import NOT_LIMITED, READABLE, Metric, Record, shots_of
from vitbench.report.details import cell_name
from vitbench.report.frame import component_key, curve_key, distinct_labels, setting_key


@dataclass(frozen=True)
class Cell:
    """One backbone on one task in one setting. Fractions; the interval is over test images, the spread over seeds."""

    value: float | None
    ci_low: float = 0.0
    ci_high: float = 0.0
    spread: float | None = None
    low: float = 0.0
    high: float = 0.0
    seeds: int = 0
    seeds_expected: int = 1
    n_test: int = 0
    failed: int = 0
    best: bool = False
    departures: tuple[str, ...] = ()
    name: str = ""

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return self.value is not None and self.seeds >= self.seeds_expected


@dataclass(frozen=True)
class Row:
    """A backbone in one setting."""

    backbone: str
    family: str
    weights: str
    pretrain_data: str
    params: int | None
    flops_per_image: int | None
    transfer_seconds: float
    cells: tuple[Cell, ...]
    rank: int | None = None

    @property
    def done(self) -> int:
        """How many tasks are complete."""
        return sum(cell.complete for cell in self.cells)

    @property
    def mean(self) -> float | None:
        """The mean over tasks, only if all are there."""
        if self.done < len(self.cells):
            return None
        return statistics.fmean(cell.value for cell in self.cells if cell.value is not None)


@dataclass(frozen=True)
class Board:
    """The leaderboard of one setting."""

    key: str
    label: str
    protocol: str
    budget: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    limit: int | None


@dataclass(frozen=True)
class ShotsPoint:
    """One point of a shots curve, with the lowest and highest seed."""

    task: str
    protocol: str
    backbone: str
    shots: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FailedJob:
    """A job without a score."""

    title: str
    kind: str
    message: str
    where: str
    key: str


def main_metric(record: Record) -> Metric | None:
    """The score that boards show: the first of the task's rules, top-1 unless the task says otherwise."""
    return next(iter(record.metrics.values()), None)


def boards(records: Sequence[Record]) -> list[Board]:
    """One board per setting, in the order of protocols as they come and of growing budgets."""
    by_setting: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_setting[setting_key(record.job)].append(record)
    labels = distinct_labels((key, _setting_label(found[0])) for key, found in by_setting.items())
    protocols = list(dict.fromkeys(record.job.protocol.label for record in records))

    def order(item: tuple[str, list[Record]]) -> tuple[int, int]:
        job = item[1][0].job
        return protocols.index(job.protocol.label), _budget_rank(job.budget)

    ordered = sorted(by_setting.items(), key=order)
    return [_board(key, labels[key], found) for key, found in ordered]


def _setting_label(record: Record) -> str:
    job = record.job
    parts = [job.protocol.label, job.budget]
    if job.limit is not None:
        parts.append(f"limited to {job.limit}")
    if job.resolution_px is not None:
        parts.append(f"{job.resolution_px} px")
    if job.test_resolution_px is not None:
        parts.append(f"tested at {job.test_resolution_px} px")
    return " · ".join(parts)


def _budget_rank(budget: str) -> int:
    return shots_of(budget) or {"1k": 10**7, "full": 10**8}[budget]


def _board(key: str, label: str, records: Sequence[Record]) -> Board:
    task_labels = distinct_labels((component_key(r.job.task), r.job.task.label) for r in records)
    present = {r.job.task.label for r in records}  # under labels of their own where two versions share one
    absent = [task for r in records for task in r.job.suite.tasks if task not in present]
    in_order = [task for r in records for task in r.job.suite.tasks if task in task_labels.values()]
    tasks = list(dict.fromkeys([*in_order, *task_labels.values(), *absent]))
    seeds = max(record.job.suite.seeds for record in records)
    backbone_labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records)
    rows = []
    for backbone_key, backbone in backbone_labels.items():
        own = [r for r in records if component_key(r.job.backbone) == backbone_key]
        by_task: dict[str, list[Record]] = defaultdict(list)
        for record in own:
            by_task[task_labels[component_key(record.job.task)]].append(record)
        rows.append(_row(backbone, own, tuple(_cell(by_task[task], seeds) for task in tasks)))
    job = records[0].job
    return Board(
        key, label, job.protocol.label, job.budget, tuple(tasks), tuple(_with_best(_ranked(rows), len(tasks))), job.limit
    )  # fmt: skip


def _row(backbone: str, records: Sequence[Record], cells: tuple[Cell, ...]) -> Row:
    facts = next((record.backbone for record in records if record.backbone), None)
    flops = next((record.cost.flops_per_image for record in records if record.cost), None)
    seconds = sum(record.cost.total_s for record in records if record.cost)
    return Row(
        backbone,
        facts.family if facts else "?",
        facts.weights if facts else "unknown",
        facts.pretrain_data if facts else "?",
        facts.params if facts else None,
        flops,
        seconds,
        cells,
    )


def _cell(records: Sequence[Record], expected: int) -> Cell:
    failures = sum(record.status == "failed" for record in records)
    metrics = [metric for record in records if (metric := main_metric(record)) is not None]
    if not metrics:
        name = cell_name(records) if records else ""
        return Cell(None, failed=failures, seeds_expected=expected, name=name)
    values = [metric.value for metric in metrics]
    return Cell(
        value=statistics.fmean(values),
        ci_low=statistics.fmean(metric.ci_low for metric in metrics),
        ci_high=statistics.fmean(metric.ci_high for metric in metrics),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        low=min(values),
        high=max(values),
        seeds=len(values),
        seeds_expected=expected,
        n_test=metrics[0].n,
        failed=failures,
        departures=tuple(sorted({reason for record in records for reason in departures_of(record)})),
        name=cell_name(records),
    )


def departures_of(record: Record) -> list[str]:
    """Why a score does not conform, but for a limit and for unreadable pictures: those have a notice of their own."""
    noticed = (NOT_LIMITED, READABLE)
    return [check.reason for check in record.conformance if not check.ok and check.item not in noticed]


def _ranked(rows: Iterable[Row]) -> list[Row]:
    """Complete rows by mean, best first, ties sharing a rank; then the others, the fuller first."""
    rows = list(rows)
    means = sorted((row.mean for row in rows if row.mean is not None), reverse=True)
    ranked = [replace(row, rank=means.index(row.mean) + 1 if row.mean is not None else None) for row in rows]
    return sorted(ranked, key=lambda row: (row.rank is None, row.rank or 0, -row.done, row.backbone))


def _with_best(rows: Sequence[Row], tasks: int) -> list[Row]:
    best = [
        max((row.cells[i].value or 0.0 for row in rows if row.cells[i].complete), default=None)
        for i in range(tasks)
    ]

    def marked(row: Row) -> tuple[Cell, ...]:
        cells = zip(row.cells, best, strict=True)
        return tuple(replace(cell, best=cell.complete and cell.value == top) for cell, top in cells)

    return [replace(row, cells=marked(row)) for row in rows]


def shots_points(records: Sequence[Record]) -> list[ShotsPoint]:
    """Scores at every N-shot budget; what was measured differently is a curve of its own."""
    shot = [record for record in records if shots_of(record.job.budget) and main_metric(record)]
    pairs = [(curve_key(record.job), _curve(record)) for record in shot]
    labels = dict(pairs)
    names = list(labels.values())
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (key, _), record in zip(pairs, shot, strict=True):
        metric = main_metric(record)
        if metric is not None:
            found[key, shots_of(record.job.budget) or 0].append(metric.value)
    points = []
    for (key, shots), values in found.items():
        task, protocol, backbone = labels[key]
        apart = f" #{key[:4]}" if names.count(labels[key]) > 1 else ""
        mean = statistics.fmean(values)
        points.append(ShotsPoint(task, protocol, backbone + apart, shots, mean, min(values), max(values)))
    return points


def _curve(record: Record) -> tuple[str, str, str]:
    job = record.job
    protocol = _setting_label(record).replace(f" · {job.budget}", "", 1)
    return job.task.label, protocol, job.backbone.label


def failures(records: Iterable[Record]) -> list[FailedJob]:
    """Every job without a score."""
    return [
        FailedJob(r.job.title, r.failure.kind, r.failure.message, r.failure.where, r.key)
        for r in records
        if r.failure is not None
    ]


def anchor(text: str) -> str:
    """Text as it may stand in an id or a fragment."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "x"
