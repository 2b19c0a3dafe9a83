"""Backbones of one board in pairs: the differences that the page shows side by side, as `vitbench compare` computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from vitbench.report.board_parts import Cell, Column
from vitbench.report.leaderboard import Row
from vitbench.report.outcomes import Table
from vitbench.report.statistics import Estimate, combined, difference, holm, mean_of

MOST_DIFFERENCES = 2000  # of a board: each takes a millisecond
DIGITS = 5  # of fractions: 0.001 points


@dataclass(frozen=True)
class Gap:
    """The second backbone minus the first on one task or in the mean: a 95 % interval, and p corrected by Holm on tasks.

    Without a known interval there is the difference alone.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def plain(self) -> list[Any]:
        """The numbers for the page."""
        if self.low is None or self.high is None:
            return [round(self.value, DIGITS)]
        known = [round(each, DIGITS) for each in (self.value, self.low, self.high)]
        return known if self.p is None else [*known, float(f"{self.p:.3g}")]


@dataclass(frozen=True)
class Pair:
    """Two rows compared: by column, None where one has no complete cell, and in the mean over all tasks."""

    first: str
    second: str
    gaps: tuple[Gap | None, ...]
    mean: Gap | None


def pairs_of(
    rows: Sequence[Row],
    columns: Sequence[Column],
    tables: Mapping[str, Mapping[str, Table]],
    *,
    seeds_are_paired: bool,
) -> tuple[Pair, ...]:
    """All pairs of measured rows; none of a board so large that they take long."""
    count = len(rows) * (len(rows) - 1) // 2 * len(columns)
    if count > MOST_DIFFERENCES:
        return ()
    return tuple(
        _pair(one, two, columns, tables, paired=seeds_are_paired) for one, two in combinations(rows, 2)
    )


def _pair(
    one: Row, two: Row, columns: Sequence[Column], tables: Mapping[str, Mapping[str, Table]], *, paired: bool
) -> Pair:
    found = [
        _estimate(one.cells[i], two.cells[i], _of_both(tables.get(column.label, {}), one, two), paired=paired)
        for i, column in enumerate(columns)
    ]
    counted = [i for i, column in enumerate(columns) if column.counted]
    known = {i: estimate for i in counted if (estimate := found[i])}
    p_values = dict(zip(known, holm([estimate.p for estimate in known.values()]), strict=True))
    values = [_plain_gap(*cells) for cells in zip(one.cells, two.cells, strict=True)]
    gaps = tuple(_gap(found[i], value, p_values.get(i)) for i, value in enumerate(values))
    mean = _mean(one, two, [found[i] for i in counted], [values[i] for i in counted])
    return Pair(one.backbone, two.backbone, gaps, mean)


def _of_both(tables: Mapping[str, Table], one: Row, two: Row) -> tuple[Table, Table] | None:
    if one.backbone in tables and two.backbone in tables:
        return tables[one.backbone], tables[two.backbone]
    return None


def _plain_gap(first: Cell, second: Cell) -> float | None:
    if first.value is None or second.value is None or not (first.complete and second.complete):
        return None
    return second.value - first.value


def _estimate(
    first: Cell, second: Cell, both: tuple[Table, Table] | None, *, paired: bool
) -> Estimate | None:
    """The difference of two cells; None if one is not complete or no interval of the metric is known."""
    if _plain_gap(first, second) is None or first.estimate is None or second.estimate is None:
        return None
    if both:
        return difference(both[0].astype(np.float64), both[1].astype(np.float64), paired=paired)
    return combined([second.estimate, first.estimate], [1.0, -1.0])


def _gap(estimate: Estimate | None, value: float | None, p: float | None) -> Gap | None:
    if value is None:
        return None
    if estimate is None:
        return Gap(value)
    interval = estimate.interval
    return Gap(value, interval.low, interval.high, p)


def _mean(one: Row, two: Row, found: Sequence[Estimate | None], gaps: Sequence[float | None]) -> Gap | None:
    if one.mean is None or two.mean is None:
        return None
    # The added images of an adjusted interval move its centre, not the difference.
    known = [
        replace(each, mean=gap) for each, gap in zip(found, gaps, strict=True) if each and gap is not None
    ]
    if len(known) < len(found):
        return Gap(two.mean - one.mean)
    estimate = mean_of(known)
    return _gap(estimate, two.mean - one.mean, estimate.p)


def plain_pairs(pairs: Sequence[Pair], columns: Sequence[Column]) -> dict[str, Any]:
    """Pairs for the page: by the two names' positions, the differences by column, then that of the means."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    place = {name: i for i, name in enumerate(names)}
    return {
        "names": names,
        "columns": [f"task:{column.label}" for column in columns],
        "gaps": {
            f"{place[pair.first]},{place[pair.second]}": [
                gap and gap.plain for gap in (*pair.gaps, pair.mean)
            ]
            for pair in pairs
        },
    }
