"""How sure the numbers of a board are: intervals of cells, and the rows that cannot be told from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from vitbench.core.record import Metric
from vitbench.report.leaderboard import Column, Row
from vitbench.report.outcomes import Table
from vitbench.report.ranks import Column as RankColumn
from vitbench.report.ranks import column_of_estimates, column_of_tables, may_be_first
from vitbench.report.statistics import (
    Estimate,
    Interval,
    Z,
    crossed,
    fraction_interval,
    of_scores,
)

MOST_RANKED = 1000  # rows: of more, comparing all pairs takes longer than all else


def cell_estimate(metrics: Sequence[Metric], table: Table | None) -> Estimate:
    """The mean over seeds with its variance, from which images each seed got right (S, N), if that is known."""
    if table is not None and len(table) > 1:
        return crossed(table.astype(np.float64))
    widths = [metric.ci_high - metric.ci_low for metric in metrics]
    # Wilson's intervals are the images' part; for a score that is not a count of images they are all that is known.
    image_variance = (sum(widths) / len(widths) / 2 / Z) ** 2
    return of_scores([metric.value for metric in metrics], image_variance)


def cell_interval(metrics: Sequence[Metric], estimate: Estimate) -> Interval:
    """The interval of a cell: its record's own of one seed, else over images and seeds."""
    if len(metrics) == 1:
        return Interval(metrics[0].value, metrics[0].ci_low, metrics[0].ci_high)
    return fraction_interval(estimate, min(metric.n for metric in metrics))


def with_first(
    rows: Sequence[Row], columns: Sequence[Column], tables: Mapping[str, Mapping[str, Table]]
) -> list[Row]:
    """The rows, those marked that cannot be told from the one with the best mean.

    `tables` are by the column's label and the row's backbone.
    """
    ranked = [row for row in rows if row.rank is not None]
    if not 2 <= len(ranked) <= MOST_RANKED:
        return list(rows)
    counted = [(i, column) for i, column in enumerate(columns) if column.counted]
    found = may_be_first(
        [_rank_column(ranked, i, tables.get(column.label, {})) for i, column in counted],
        [row.exact_mean or Fraction(0) for row in ranked],
    )
    first = {row.backbone for row, is_first in zip(ranked, found, strict=True) if is_first}
    return [replace(row, first=row.rank is not None and row.backbone in first) for row in rows]


def _rank_column(rows: Sequence[Row], i: int, tables: Mapping[str, Table]) -> RankColumn:
    cells = [row.cells[i] for row in rows]
    if all(row.backbone in tables for row in rows):
        return column_of_tables([tables[row.backbone] for row in rows])
    return column_of_estimates(
        [cell.estimate or Estimate(0.0, 0.0) for cell in cells], min(c.n_test for c in cells)
    )
