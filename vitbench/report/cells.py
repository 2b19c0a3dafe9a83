"""Records become cells of a board: the seeds of one backbone on one task, with what they leave open."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from vitbench.core.conformance import NOT_LIMITED, READABLE
from vitbench.core.record import Metric, Record
from vitbench.report.board_statistics import cell_estimate, cell_interval
from vitbench.report.cell_details import cell_name
from vitbench.report.keys import component_key, distinct_labels
from vitbench.report.leaderboard import Cell, Column
from vitbench.report.main_metric import exact_mean, is_seeded, main_metric
from vitbench.report.outcomes import Predictions, Table, tables_or_none
from vitbench.report.published_match import published_match
from vitbench.report.tolerance import Runs, SeedSpread, pooled

ByTask = dict[str, dict[str, list[Record]]]  # by the task's label and the backbone's key: the seeds of a cell
Tables = dict[str, dict[str, Table]]  # by the column's label and the backbone's


def tables_of_columns(
    records: Sequence[Record], by_task: ByTask, columns: Sequence[Column], predictions: Predictions | None
) -> Tables:
    """Which images each seed got right, of every column in which all backbones' predictions are at hand."""
    labels = row_labels(records)
    found: Tables = {}
    for column in columns if predictions else ():
        own = {
            labels[backbone]: scored
            for backbone, cell in by_task.get(column.task, {}).items()
            if (scored := [record for record, _ in _scored(cell, column)])
        }
        stacked = tables_or_none(list(own.values()), predictions, column.metric or None)
        if stacked:
            found[column.label] = dict(zip(own, stacked, strict=True))
    return found


def row_labels(records: Sequence[Record]) -> dict[str, str]:
    """The labels of rows by the backbone's key."""
    return distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records)


def _scored(records: Sequence[Record], column: Column) -> list[tuple[Record, Metric]]:
    """The records of a cell that have the column's metric, by seed, each with it."""
    return [
        (record, metric)
        for record in sorted(records, key=lambda record: record.job.seed)
        if (metric := record.metrics.get(column.metric) if column.metric else main_metric(record)) is not None
    ]


def seed_spread(cells: Iterable[Sequence[Record]], column: Column) -> SeedSpread | None:
    """The standard deviation over seeds of all networks of a column together."""
    return pooled([[metric.value for _, metric in _scored(cell, column)] for cell in cells])


def cell_of(
    records: Sequence[Record], expected: int, column: Column, table: Table | None, spread: SeedSpread | None
) -> Cell:
    """The cell of these records; `table` says which images each seed got right, `spread` is that of the whole column."""
    failures = sum(record.status == "failed" for record in records)
    found = _scored(records, column)
    if not found:
        name = cell_name(records) if records else ""
        return Cell(None, failed=failures, seeds_expected=expected, name=name)
    metrics = [metric for _, metric in found]
    values = [metric.value for metric in metrics]
    mean = statistics.fmean(values)
    estimate = cell_estimate(metrics, table)
    interval = cell_interval(metrics, estimate)
    match = published_match([record for record, _ in found], column.dataset, Runs(mean, len(found)), spread)
    return Cell(
        value=mean,
        ci_low=interval.low,
        ci_high=interval.high,
        image_low=statistics.fmean(metric.ci_low for metric in metrics),
        image_high=statistics.fmean(metric.ci_high for metric in metrics),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        estimate=estimate,
        exact=exact_mean(metrics),
        one_network=len(values) == 1 and is_seeded(found[0][0].job),
        known_images=table is not None,
        by_seed=tuple(values),
        seeds=len(values),
        seeds_expected=expected,
        n_test=metrics[0].n,
        failed=failures,
        departures=tuple(sorted({reason for record in records for reason in departures_of(record)})),
        name=cell_name(records),
        published=match,
        decimals=match.decimals if match else 1,
    )


def departures_of(record: Record) -> list[str]:
    """Why a score does not conform, except for a limit and unreadable images, which have their own notices."""
    noticed = (NOT_LIMITED, READABLE)
    return [check.reason for check in record.conformance if check.ok is False and check.item not in noticed]
