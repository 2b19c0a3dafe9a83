"""Build leaderboards from records, one per setting: protocol, budget and all else that makes results comparable.

Incomplete rows are shown without a mean or a rank. Published rows are shown beside the measured ones, also unranked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from vitbench.core.format import printable
from vitbench.core.job import shots_of
from vitbench.core.metric_names import title_of
from vitbench.core.record import Record
from vitbench.published import GROUP_OF, VTAB_GROUPS, dataset_of
from vitbench.report.board_parts import Cell, Column, Item
from vitbench.report.board_statistics import common_tasks, with_common, with_ranks
from vitbench.report.cells import ByTask, Tables, cell_of, row_labels, seed_spread, tables_of_columns
from vitbench.report.compute import measured_compute
from vitbench.report.keys import by_setting, cells, digest, distinct_labels
from vitbench.report.leaderboard import Board, Row
from vitbench.report.outcomes import Predictions
from vitbench.report.pairs import pairs_of
from vitbench.report.published_match import rows_on_board
from vitbench.report.published_rows import published_row, shorten_names
from vitbench.report.seeded import draws_images
from vitbench.report.setting_names import setting_name, setting_parts
from vitbench.report.shown_metric import asked_metrics

UNKNOWN = "unknown"  # of a backbone that failed before anything was known of it


def boards(
    records: Sequence[Record],
    published: Iterable[str] = (),
    predictions: Predictions | None = None,
    *,
    in_pairs: bool = False,
) -> list[Board]:
    """One board per setting: protocols in the order of the records, budgets from small to large.

    `published` are prefixes of the ids of published rows to show; suites may name more. With `predictions`, intervals take
    into account which images each seed and each backbone got right. `in_pairs`: boards have the differences of all pairs.
    """
    settings = by_setting(records)
    labels = distinct_labels((key, setting_label(found[0])) for key, found in settings.items())
    protocols = list(dict.fromkeys(record.job.protocol.label for record in records))

    def order(item: tuple[str, list[Record]]) -> tuple[int, int]:
        job = item[1][0].job
        return protocols.index(job.protocol.label), budget_rank(job.budget)

    ordered = sorted(settings.items(), key=order)
    found = [_board(key, labels[key], own, tuple(published), predictions) for key, own in ordered]
    return (
        [board for board, _ in found]
        if not in_pairs
        else [_in_pairs(board, tables) for board, tables in found]
    )


def _in_pairs(board: Board, tables: Tables) -> Board:
    rows = [row for row in board.measured if row.done]
    return replace(board, pairs=pairs_of(rows, board.columns, tables, seeds_are_paired=board.draws_images))


def setting_label(record: Record) -> str:
    """A short label for a record's setting."""
    job = record.job
    return " · ".join([job.protocol.label, job.budget, *setting_parts(job)])


def budget_rank(budget: str) -> int:
    """Budgets from small to large."""
    return shots_of(budget) or {"1k": 10**7, "full": 10**8}[budget]


def _board(
    key: str,
    label: str,
    records: Sequence[Record],
    published: tuple[str, ...],
    predictions: Predictions | None,
) -> tuple[Board, Tables]:
    """A board, and which images each seed of its cells got right."""
    by_cell = cells(records)
    tasks = distinct_labels((digest(cell.task), own[0].job.task.label) for cell, own in by_cell.items())
    by_task: ByTask = defaultdict(dict)
    for cell, own in by_cell.items():
        by_task[tasks[digest(cell.task)]][cell.backbone] = own
    columns = _columns(records, by_task)
    job = records[0].job
    tables = tables_of_columns(records, by_task, columns, predictions)
    measured = _with_best(_ranked(_measured(records, by_task, columns, tables)), len(columns))
    common = common_tasks(measured)
    measured = with_common(with_ranks(measured, columns, tables), columns, tables, common)
    rows = [*measured, *_published(records, columns, published)]
    shown = _with_decimals(columns, rows)
    mark = label.removeprefix(setting_label(records[0])).strip()
    name = setting_name(job, mark)
    board = Board(
        key,
        label,
        job.protocol.label,
        job.budget,
        shown,
        tuple(rows),
        job.limit,
        name,
        common,
        draws_images(job),
    )
    return board, tables


def _with_decimals(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns with as many decimals as the published values that are shown in them or beside them have."""
    return tuple(
        replace(column, decimals=max([1, *(row.cells[i].decimals for row in rows)]))
        for i, column in enumerate(columns)
    )


def _columns(records: Sequence[Record], by_task: ByTask) -> tuple[Column, ...]:
    """A column for each task, then one for each of its additional metrics: in the order of the suites, VTAB by groups."""
    found, asked = [], asked_metrics(records)
    for label in _task_order(records, by_task):
        own = [record for cell in by_task.get(label, {}).values() for record in cell]
        first = next((record for record in own if record.metrics), own[0] if own else None)
        name = first.job.task.name if first else label
        group = _group(name)
        shown, note = asked.get(first.job.task.label, ("", "")) if first else ("", "")
        title = f"{label} · {title_of(shown)}" if shown else label
        found.append(Column(title, label, "", group, dataset_of(name, shown), shown, note))
        additional = dict.fromkeys(metric for record in own for metric in list(record.metrics)[1:])
        found += [
            Column(f"{label} · {metric}", label, metric, group, dataset_of(name, metric))
            for metric in additional
        ]
    if all(any(column.group == group for column in found) for group in VTAB_GROUPS):
        order = ["", *VTAB_GROUPS]
        found.sort(key=lambda column: order.index(column.group))
    return tuple(found)


def _task_order(records: Sequence[Record], by_task: ByTask) -> list[str]:
    """Labels of tasks: those with records in the order of the suites, then those that no backbone has run."""
    asked = [task for record in records for task in record.job.suite.tasks]
    # Two versions of one task have other labels than the suite's.
    present = {record.job.task.label for record in records}
    with_records = [task for task in asked if task in by_task]
    not_run = [task for task in asked if task not in present]
    return list(dict.fromkeys([*with_records, *by_task, *not_run]))


def _group(task: str) -> str:
    return GROUP_OF.get(dataset_of(task), "") if task.startswith("vtab/") else ""


def _measured(
    records: Sequence[Record], by_task: ByTask, columns: Sequence[Column], tables: Tables
) -> list[Row]:
    seeds = max(record.job.suite.seeds for record in records)
    spreads = {column.label: seed_spread(by_task.get(column.task, {}).values(), column) for column in columns}
    rows = []
    for backbone, label in row_labels(records).items():
        own = {task: found[backbone] for task, found in by_task.items() if backbone in found}
        row_cells = tuple(
            cell_of(
                own.get(column.task, []),
                seeds,
                column,
                tables.get(column.label, {}).get(label),
                spreads[column.label],
            )
            for column in columns
        )
        rows.append(_row(label, [r for found in own.values() for r in found], columns, row_cells))
    return rows


def _row(
    label: str, records: Sequence[Record], columns: Sequence[Column], row_cells: tuple[Cell, ...]
) -> Row:
    facts = next((record.backbone for record in records if record.backbone), None)
    why = next((record.failure.message for record in records if record.failure), "") if not facts else ""
    return Row(
        label,
        facts.family if facts else UNKNOWN,
        facts.weights if facts else UNKNOWN,
        facts.pretrain_data if facts else UNKNOWN,
        facts.params if facts else None,
        measured_compute(records),
        row_cells,
        tuple(column.counted for column in columns),
        failure=printable(" ".join(why.split())),
        conformance=_items(records),
    )


def _items(records: Sequence[Record]) -> tuple[Item, ...]:
    checks = [check for record in records if record.status == "ok" for check in record.conformance]
    found = []
    for name in dict.fromkeys(check.item for check in checks):
        own = [check for check in checks if check.item == name]
        reasons = tuple(sorted({check.reason for check in own if not check.ok}))
        holding, unknown = (sum(check.ok is outcome for check in own) for outcome in (True, None))
        found.append(Item(name, holding, len(own), reasons, unknown))
    return (*found, *_one_set_of_weights(records)) if found else ()


def _one_set_of_weights(records: Sequence[Record]) -> Iterator[Item]:
    """An item that only a row can have: its records were measured with the same weights, though a hub's may have changed."""
    weights = {
        record.backbone.weights_digest[:12]: record.backbone.source for record in records if record.backbone
    }
    if len(weights) > 1:
        named = ", ".join(f"{source} (sha256 {digest})" for digest, source in sorted(weights.items()))
        yield Item("one set of weights", 0, len(records), (f"different weights under one name: {named}",))


def _ranked(rows: Iterable[Row]) -> list[Row]:
    """Complete rows by mean, best first, ties sharing a rank; then incomplete rows by the number of finished tasks."""
    rows = list(rows)
    means = sorted((mean for row in rows if (mean := row.exact_mean) is not None), reverse=True)
    places = {mean: i + 1 for i, mean in reversed(list(enumerate(means)))}
    ranked = [replace(row, rank=None if row.exact_mean is None else places[row.exact_mean]) for row in rows]
    return sorted(ranked, key=lambda row: (row.rank is None, row.rank or 0, -row.done, row.backbone))


def _with_best(rows: Sequence[Row], columns: int) -> list[Row]:
    best = [
        max((row.cells[i].exact or Fraction(0) for row in rows if row.cells[i].complete), default=None)
        for i in range(columns)
    ]

    def marked(row: Row) -> tuple[Cell, ...]:
        pairs = zip(row.cells, best, strict=True)
        return tuple(replace(cell, best=cell.complete and cell.exact == top) for cell, top in pairs)

    return [replace(row, cells=marked(row)) for row in rows]


def _published(records: Sequence[Record], columns: Sequence[Column], published: tuple[str, ...]) -> list[Row]:
    prefixes = dict.fromkeys([*published, *(prefix for r in records for prefix in r.job.suite.published)])
    rows = shorten_names([published_row(row, columns) for row in rows_on_board(records[0].job, prefixes)])
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
