"""How sure the numbers of a board are: intervals of cells, and the rows that cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from vitbench.report.leaderboard import Column, Row
from vitbench.report.outcomes import Table
from vitbench.report.ranks import Column as RankColumn
from vitbench.report.ranks import column_of_estimates, column_of_tables, may_be_first
from vitbench.report.shown_metric import Score
from vitbench.report.statistics import (
    Estimate,
    Z,
    crossed,
    fraction_interval,
    of_scores,
)

MOST_RANKED = 1000  # rows: of more, comparing all pairs takes longer than all else


Bounds = tuple[float, float] | tuple[None, None]


def cell_estimate(scores: Sequence[Score], table: Table | None) -> Estimate | None:
    """The mean over seeds with its variance, from which images each seed got right (S, N), if that is known.

    None of a metric whose interval over images is not known.
    """
    if table is not None and len(table) > 1:
        return crossed(table.astype(np.float64))
    widths = [score.interval[1] - score.interval[0] for score in scores if score.interval]
    if len(widths) < len(scores):
        return None
    # Wilson's intervals are the images' part; for a score that is not a count of images they are all that is known.
    image_variance = (math.fsum(widths) / len(widths) / 2 / Z) ** 2
    return of_scores([score.value for score in scores], image_variance)


def cell_interval(scores: Sequence[Score], estimate: Estimate | None) -> Bounds:
    """The interval of a cell: its record's own of one seed, else over images and seeds; None where none is known."""
    if len(scores) == 1 and scores[0].interval:
        return scores[0].interval
    if estimate is None:
        return None, None
    found = fraction_interval(estimate, min(score.n for score in scores), scores[0].clusters)
    return found.low, found.high


def images_alone(scores: Sequence[Score]) -> Bounds:
    """The part of a cell's interval over images: the means of its seeds' bounds; None unless all are known."""
    known = [score.interval for score in scores if score.interval]
    if len(known) < len(scores):
        return None, None
    lows, highs = zip(*known, strict=True)
    return math.fsum(lows) / len(lows), math.fsum(highs) / len(highs)


def with_first(
    rows: Sequence[Row], columns: Sequence[Column], tables: Mapping[str, Mapping[str, Table]]
) -> list[Row]:
    """The rows, those marked that cannot be told from the one with the best mean; none where an interval is not known.

    `tables` are by the column's label and the row's backbone.
    """
    ranked = [row for row in rows if row.rank is not None]
    counted = [(i, column) for i, column in enumerate(columns) if column.counted]
    known = all(row.cells[i].estimate is not None for row in ranked for i, _ in counted)
    if not known or not 2 <= len(ranked) <= MOST_RANKED:
        return list(rows)
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
        [cell.estimate for cell in cells if cell.estimate is not None], min(c.n_test for c in cells)
    )
