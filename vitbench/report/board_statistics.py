"""How sure the numbers of a board are: intervals of cells, and the ranks of rows with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from vitbench.report.board_parts import Column, Standing
from vitbench.report.leaderboard import Row
from vitbench.report.outcomes import Table
from vitbench.report.ranks import Column as RankColumn
from vitbench.report.ranks import Place, Ranks, column_of_estimates, column_of_tables, places, ranked
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


Tables = Mapping[str, Mapping[str, Table]]  # by the column's label and the row's backbone


def with_ranks(rows: Sequence[Row], columns: Sequence[Column], tables: Tables) -> list[Row]:
    """The rows, complete ones with the intervals of their ranks, and those marked that cannot be told from the best."""
    complete = [row for row in rows if row.rank is not None]
    found = _ranks(complete, [i for i, column in enumerate(columns) if column.counted], columns, tables)
    by_name = dict(zip([row.backbone for row in complete], found, strict=True))
    return [
        replace(row, rank_low=place.low, rank_high=place.high, first=bool(place.first))
        if (place := by_name.get(row.backbone))
        else row
        for row in rows
    ]


def common_tasks(rows: Sequence[Row]) -> tuple[int, ...]:
    """The tasks that all rows have with all seeds, where some rows lack others; rows with nothing at all do not count."""
    begun = [row for row in rows if row.done]
    if all(row.rank is not None for row in begun):
        return ()
    return tuple(i for i in begun[0].tasks if all(row.cells[i].complete for row in begun))


def with_common(
    rows: Sequence[Row], columns: Sequence[Column], tables: Tables, common: Sequence[int]
) -> list[Row]:
    """The rows with their standing by the mean over these tasks."""
    begun = [row for row in rows if common and row.done]
    found = _ranks(begun, common, columns, tables)
    by_name = dict(zip([row.backbone for row in begun], found, strict=True))
    return [
        replace(row, common=_standing(row, common, by_name[row.backbone])) if row.backbone in by_name else row
        for row in rows
    ]


def _standing(row: Row, tasks: Sequence[int], place: Ranks | Place) -> Standing:
    mean = row.mean_of(tasks)
    return Standing(
        0.0 if mean is None else mean,
        math.floor(place.value),
        row.interval_of(tasks),
        place.low,
        place.high,
        bool(place.first),
    )


def _ranks(
    rows: Sequence[Row], tasks: Sequence[int], columns: Sequence[Column], tables: Tables
) -> Sequence[Ranks | Place]:
    """The ranks of rows by their means over tasks that each has; by the means alone where an interval is not known."""
    exact = [_exact(row, tasks) for row in rows]
    known = all(row.cells[i].estimate is not None for row in rows for i in tasks)
    if not known or not 2 <= len(rows) <= MOST_RANKED:
        return [Place(place) for place in places(exact)]
    return ranked([_rank_column(rows, i, tables.get(columns[i].label, {})) for i in tasks], exact)


def _exact(row: Row, tasks: Sequence[int]) -> Fraction:
    return sum((row.cells[i].exact or Fraction(0) for i in tasks), Fraction(0)) / len(tasks)


def _rank_column(rows: Sequence[Row], i: int, tables: Mapping[str, Table]) -> RankColumn:
    cells = [row.cells[i] for row in rows]
    if all(row.backbone in tables for row in rows):
        return column_of_tables([tables[row.backbone] for row in rows])
    return column_of_estimates(
        [cell.estimate for cell in cells if cell.estimate is not None], min(c.n_test for c in cells)
    )
