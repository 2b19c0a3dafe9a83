"""Records to boards, one per setting: a protocol under a budget, and all else that must agree for numbers to be compared.

No mean is ever taken over missing cells: an incomplete row is shown, not ranked. Published rows stand beside, unranked.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitbench.core.conformance import NOT_LIMITED, READABLE
from vitbench.core.job import shots_of
from vitbench.core.record import Metric, Record
from vitbench.published import GROUP_OF
from vitbench.report.cell_details import cell_name
from vitbench.report.compute import measured_compute
from vitbench.report.keys import component_key, digest, distinct_labels, setting_key, task_key
from vitbench.report.leaderboard import VTAB_GROUPS, Board, Cell, Column, Item, Row
from vitbench.report.published_match import dataset_of, reference, rows_on_board
from vitbench.report.published_rows import distinct_models, quoted_row

Tasks = Mapping[str, str]  # keys of tasks to their labels


def main_metric(record: Record) -> Metric | None:
    """The score that boards show: the first of the task's rules, top-1 unless the task says otherwise."""
    return next(iter(record.metrics.values()), None)


def boards(records: Sequence[Record], published: Iterable[str] = ()) -> list[Board]:
    """One board per setting, in the order of protocols as they come and of growing budgets.

    `published` are starts of names of published rows to show beside; suites may ask for more of them.
    """
    by_setting: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_setting[setting_key(record.job)].append(record)
    labels = distinct_labels((key, setting_label(found[0])) for key, found in by_setting.items())
    protocols = list(dict.fromkeys(record.job.protocol.label for record in records))

    def order(item: tuple[str, list[Record]]) -> tuple[int, int]:
        job = item[1][0].job
        return protocols.index(job.protocol.label), _budget_rank(job.budget)

    ordered = sorted(by_setting.items(), key=order)
    return [_board(key, labels[key], found, tuple(published)) for key, found in ordered]


def setting_label(record: Record) -> str:
    """A setting in a few words."""
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


def _board(key: str, label: str, records: Sequence[Record], published: tuple[str, ...]) -> Board:
    tasks = _task_labels(records)
    columns = _columns(records, tasks)
    job = records[0].job
    rows = [
        *_with_best(_ranked(_measured(records, tasks, columns)), len(columns)),
        *_quoted(records, columns, published),
    ]
    return Board(key, label, job.protocol.label, job.budget, columns, tuple(rows), job.limit)


def _task_labels(records: Sequence[Record]) -> Tasks:
    """A label for each task as each record met it: other test data under the same name are another column."""
    found: dict[str, str] = {}
    for record in records:
        found[task_key(record)] = record.job.task.label
    of_component = {key.partition(" ")[0]: key for key in found if " " in key}
    labels = distinct_labels(
        (digest(key), label) for key, label in found.items() if " " in key or key not in of_component
    )
    return {key: labels[digest(of_component.get(key, key))] for key in found}


def _columns(records: Sequence[Record], tasks: Tasks) -> tuple[Column, ...]:
    """A column a task, in the suites' order but for VTAB's groups, which stay together; then one for each further metric."""
    first: dict[str, Record] = {}
    further: dict[str, list[str]] = defaultdict(list)
    for record in records:
        label = tasks[task_key(record)]
        if record.metrics and not first.setdefault(label, record).metrics:
            first[label] = record
        further[label] += [name for name in list(record.metrics)[1:] if name not in further[label]]
    present = {r.job.task.label for r in records}  # under labels of their own where two versions share one
    absent = [task for r in records for task in r.job.suite.tasks if task not in present]
    in_order = [task for r in records for task in r.job.suite.tasks if task in first]
    found = []
    for label in dict.fromkeys([*in_order, *first, *absent]):
        name = first[label].job.task.name if label in first else label
        group = _group(first.get(label), name)
        found.append(Column(label, label, "", group, dataset_of(name)))
        found += [
            Column(f"{label} · {metric}", label, metric, group, dataset_of(name, metric))
            for metric in further[label]
        ]
    if all(any(column.group == group for column in found) for group in VTAB_GROUPS):
        found.sort(key=lambda column: VTAB_GROUPS.index(column.group) if column.group else -1)
    return tuple(found)


def _group(record: Record | None, task: str) -> str:
    known = record.data.group if record and record.data else ""
    if known in VTAB_GROUPS:
        return known
    return GROUP_OF.get(dataset_of(task), "") if task.startswith("vtab/") else ""


def _measured(records: Sequence[Record], tasks: Tasks, columns: Sequence[Column]) -> list[Row]:
    seeds = max(record.job.suite.seeds for record in records)
    labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records)
    by_backbone: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        task = tasks[task_key(record)]
        by_backbone[component_key(record.job.backbone)][task].append(record)
    return [
        _row(labels[backbone], by_task, columns, tuple(_cell(by_task.get(c.task, []), seeds, c) for c in columns))
        for backbone, by_task in by_backbone.items()
    ]  # fmt: skip


def _row(
    label: str, by_task: Mapping[str, list[Record]], columns: Sequence[Column], cells: tuple[Cell, ...]
) -> Row:
    records = [record for own in by_task.values() for record in own]
    facts = next((record.backbone for record in records if record.backbone), None)
    return Row(
        label,
        facts.family if facts else "?",
        facts.weights if facts else "unknown",
        facts.pretrain_data if facts else "?",
        facts.params if facts else None,
        measured_compute(records),
        cells,
        tuple(column.counted for column in columns),
        conformance=_items(records),
    )


def _items(records: Sequence[Record]) -> tuple[Item, ...]:
    checks = [check for record in records if record.status == "ok" for check in record.conformance]
    found = []
    for name in dict.fromkeys(check.item for check in checks):
        own = [check for check in checks if check.item == name]
        reasons = tuple(sorted({check.reason for check in own if not check.ok}))
        found.append(Item(name, sum(check.ok for check in own), len(own), reasons))
    return tuple(found)


def _cell(records: Sequence[Record], expected: int, column: Column) -> Cell:
    failures = sum(record.status == "failed" for record in records)
    found = [
        (record, metric)
        for record in sorted(records, key=lambda record: record.job.seed)
        if (metric := record.metrics.get(column.metric) if column.metric else main_metric(record)) is not None
    ]
    if not found:
        name = cell_name(records) if records else ""
        return Cell(None, failed=failures, seeds_expected=expected, name=name)
    metrics = [metric for _, metric in found]
    values = [metric.value for metric in metrics]
    mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return Cell(
        value=mean,
        ci_low=statistics.fmean(metric.ci_low for metric in metrics),
        ci_high=statistics.fmean(metric.ci_high for metric in metrics),
        spread=spread,
        by_seed=tuple(values),
        seeds=len(values),
        seeds_expected=expected,
        n_test=metrics[0].n,
        failed=failures,
        departures=tuple(sorted({reason for record in records for reason in departures_of(record)})),
        name=cell_name(records),
        reference=reference([record for record, _ in found], column.dataset, mean, spread, metrics[0].n),
    )


def departures_of(record: Record) -> list[str]:
    """Why a score does not conform, but for a limit and for unreadable images: those have a notice of their own."""
    noticed = (NOT_LIMITED, READABLE)
    return [check.reason for check in record.conformance if not check.ok and check.item not in noticed]


def _ranked(rows: Iterable[Row]) -> list[Row]:
    """Complete rows by mean, best first, ties sharing a rank; then the others, the fuller first."""
    rows = list(rows)
    means = sorted((row.mean for row in rows if row.mean is not None), reverse=True)
    ranked = [replace(row, rank=means.index(row.mean) + 1 if row.mean is not None else None) for row in rows]
    return sorted(ranked, key=lambda row: (row.rank is None, row.rank or 0, -row.done, row.backbone))


def _with_best(rows: Sequence[Row], columns: int) -> list[Row]:
    best = [
        max((row.cells[i].value or 0.0 for row in rows if row.cells[i].complete), default=None)
        for i in range(columns)
    ]

    def marked(row: Row) -> tuple[Cell, ...]:
        cells = zip(row.cells, best, strict=True)
        return tuple(replace(cell, best=cell.complete and cell.value == top) for cell, top in cells)

    return [replace(row, cells=marked(row)) for row in rows]


def _quoted(records: Sequence[Record], columns: Sequence[Column], published: tuple[str, ...]) -> list[Row]:
    asked = dict.fromkeys([*published, *(start for r in records for start in r.job.suite.published)])
    rows = [quoted_row(row, columns) for row in rows_on_board(records[0].job, asked)]
    rows = distinct_models(rows)
    shown = [row for row in rows if any(cell.value is not None for cell in row.cells)]
    return sorted(shown, key=lambda row: (row.mean is None, -(row.mean or 0), -row.done, row.backbone))


@dataclass(frozen=True)
class FailedJob:
    """A job without a score."""

    title: str
    kind: str
    message: str
    where: str
    key: str


def failures(records: Iterable[Record]) -> list[FailedJob]:
    """Every job without a score."""
    return [
        FailedJob(r.job.title, r.failure.kind, r.failure.message, r.failure.where, r.key)
        for r in records
        if r.failure is not None
    ]
