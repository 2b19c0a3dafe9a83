"""Records become cells of a board: the seeds of one backbone on one task, with what they leave open."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from vitbench.core.conformance import NOT_LIMITED, READABLE
from vitbench.core.record import Record
from vitbench.report.board_parts import Cell, Column
from vitbench.report.board_statistics import cell_estimate, cell_interval, images_alone
from vitbench.report.cell_details import cell_name
from vitbench.report.keys import component_key, distinct_labels
from vitbench.report.outcomes import Predictions, Table, tables_or_none
from vitbench.report.published_match import published_match
from vitbench.report.seeded import is_seeded
from vitbench.report.shown_metric import Score, exact_mean, is_by_image, lacking, value_of
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
            if (
                scored := [
                    record for record, _ in _scored(cell, column) if is_by_image(record, _metric(column))
                ]
            )
        }
        stacked = tables_or_none(list(own.values()), predictions, _metric(column) or None)
        if stacked:
            found[column.label] = dict(zip(own, stacked, strict=True))
    return found


def row_labels(records: Sequence[Record]) -> dict[str, str]:
    """The labels of rows by the backbone's key."""
    return distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records)


def _metric(column: Column) -> str:
    """The metric of a column; '' for the task's own."""
    return column.metric or column.shown


def _scored(records: Sequence[Record], column: Column) -> list[tuple[Record, Score]]:
    """The records of a cell that have the column's metric, by seed, each with it."""
    return [
        (record, score)
        for record in sorted(records, key=lambda record: record.job.seed)
        if (score := value_of(record, _metric(column))) is not None
    ]


def seed_spread(cells: Iterable[Sequence[Record]], column: Column) -> SeedSpread | None:
    """The standard deviation over seeds of all networks of a column together."""
    return pooled([[score.value for _, score in _scored(cell, column)] for cell in cells])


def cell_of(
    records: Sequence[Record], expected: int, column: Column, table: Table | None, spread: SeedSpread | None
) -> Cell:
    """The cell of these records; `table` says which images each seed got right, `spread` is that of the whole column."""
    failures = sum(record.status == "failed" for record in records)
    found = _scored(records, column)
    if not found:
        name = cell_name(records) if records else ""
        reason = lacking(records, column.shown) if column.shown else ""
        return Cell(None, failed=failures, seeds_expected=expected, name=name, lacking=reason)
    scores = [score for _, score in found]
    values = [score.value for score in scores]
    mean = statistics.fmean(values)
    estimate = cell_estimate(scores, table)
    low, high = cell_interval(scores, estimate)
    image_low, image_high = images_alone(scores)
    match = published_match([record for record, _ in found], column.dataset, Runs(mean, len(found)), spread)
    return Cell(
        value=mean,
        ci_low=low,
        ci_high=high,
        image_low=image_low,
        image_high=image_high,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        estimate=estimate,
        exact=exact_mean(scores),
        one_network=len(values) == 1 and is_seeded(found[0][0].job),
        known_images=table is not None,
        by_seed=tuple(values),
        seeds=len(values),
        seeds_expected=expected,
        n_test=scores[0].n,
        clusters=scores[0].clusters,
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
