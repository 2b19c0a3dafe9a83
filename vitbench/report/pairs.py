"""Backbones of one board in pairs: what is known of their differences on the same test images, as `vitbench compare` has it.

Scripts of the page make intervals and p-values of it, for all tasks or for some. Where nothing is known here, they take two
cells for independent; their interval is longer then, as backbones fail on similar images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from vitbench.report.board_parts import Column
from vitbench.report.leaderboard import Row
from vitbench.report.outcomes import Table
from vitbench.report.statistics import Estimate, difference

MOST_DIFFERENCES = 8000  # of a board: 29 backbones on 19 tasks; each takes 0.3 ms, and 30 bytes of the page


@dataclass(frozen=True)
class Pair:
    """The second row minus the first, by column; None where it is not known which images both got right."""

    first: str
    second: str
    estimates: tuple[Estimate | None, ...]


def pairs_of(
    rows: Sequence[Row],
    columns: Sequence[Column],
    tables: Mapping[str, Mapping[str, Table]],
    *,
    seeds_are_paired: bool,
) -> tuple[Pair, ...]:
    """All pairs of measured rows; none of a board so large that they take long."""
    count = len(rows) * (len(rows) - 1) // 2 * len(columns)
    if count > MOST_DIFFERENCES or not any(tables.values()):
        return ()
    own = [tables.get(column.label, {}) for column in columns]
    return tuple(_pair(one, two, own, paired=seeds_are_paired) for one, two in combinations(rows, 2))


def _pair(one: Row, two: Row, tables: Sequence[Mapping[str, Table]], *, paired: bool) -> Pair:
    found = [
        _estimate(one, two, i, by_backbone, paired=paired) if by_backbone else None
        for i, by_backbone in enumerate(tables)
    ]
    return Pair(one.backbone, two.backbone, tuple(found))


def _estimate(one: Row, two: Row, i: int, tables: Mapping[str, Table], *, paired: bool) -> Estimate | None:
    """The difference in one column; None if a cell is not complete or its images are not known."""
    both = [tables.get(row.backbone) for row in (one, two)]
    cells = one.cells[i], two.cells[i]
    if both[0] is None or both[1] is None or not all(cell.complete and cell.estimate for cell in cells):
        return None
    return difference(both[0].astype(np.float64), both[1].astype(np.float64), paired=paired)


def plain_pairs(pairs: Sequence[Pair], columns: Sequence[Column]) -> dict[str, Any]:
    """Pairs for the page: by the two names' positions, what is known by column: the centre of the interval, and variances."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    place = {name: i for i, name in enumerate(names)}
    return {
        "names": names,
        "columns": [f"task:{column.label}" for column in columns],
        "gaps": {
            f"{place[pair.first]},{place[pair.second]}": [
                each and [float(f"{each.mean:.5g}"), *each.parts] for each in pair.estimates
            ]
            for pair in pairs
        },
    }
