"""A leaderboard as plain data: rows and boards. Rows with missing cells have no mean."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from vitbench.published import VTAB_GROUPS
from vitbench.report.board_parts import Cell, Column, Item, Standing
from vitbench.report.compute import Compute
from vitbench.report.setting_names import SettingName
from vitbench.report.statistics import Estimate, Interval, inside, mean_of

if TYPE_CHECKING:
    from vitbench.report.pairs import Pair


@dataclass(frozen=True)
class Row:
    """A backbone in one setting, measured here or published.

    `common` is its standing over the tasks that all rows have, where some lack others; `failure` why it has no facts.
    """

    backbone: str
    family: str
    weights: str
    pretrain_data: str
    params: int | None
    compute: Compute
    cells: tuple[Cell, ...]
    counted: tuple[bool, ...]
    rank: int | None = None
    first: bool = False  # its mean cannot be told from the best
    rank_low: int | None = None
    rank_high: int | None = None
    common: Standing | None = None
    failure: str = ""
    conformance: tuple[Item, ...] = ()
    source: str = ""  # of a published row
    weak: bool = False

    @property
    def published(self) -> bool:
        """Whether it comes from a publication and was not measured here."""
        return bool(self.source)

    @property
    def tasks(self) -> tuple[int, ...]:
        """Positions of the cells that means include."""
        return tuple(i for i, counts in enumerate(self.counted) if counts)

    @property
    def done(self) -> int:
        """How many tasks are complete."""
        return sum(self.cells[i].complete for i in self.tasks)

    @property
    def mean(self) -> float | None:
        """The mean over all tasks; None if one is incomplete."""
        return self.mean_of(self.tasks)

    def mean_of(self, positions: Sequence[int]) -> float | None:
        """The mean over these cells; None if one is incomplete."""
        cells = [self.cells[i] for i in positions]
        if not cells or not all(cell.complete for cell in cells):
            return None
        return statistics.fmean(cell.value for cell in cells if cell.value is not None)

    @property
    def exact_mean(self) -> Fraction | None:
        """The mean over all tasks as a fraction: ties are equal counts of correct images, whatever the order of sums."""
        exact = [
            cell.exact for i in self.tasks if (cell := self.cells[i]).complete and cell.exact is not None
        ]
        return sum(exact, Fraction(0)) / len(exact) if exact and len(exact) == len(self.tasks) else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean over all tasks; None where none is known."""
        return self.interval_of(self.tasks)

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions of the tasks that are not complete."""
        return tuple(i for i in self.tasks if not self.cells[i].complete)

    @property
    def without_interval(self) -> bool:
        """Whether it has a measured mean of which no interval is known."""
        return not self.published and self.mean is not None and self.interval is None

    def estimate_of(self, positions: Sequence[int]) -> Estimate | None:
        """The mean over these cells with its variance, the tasks being fixed.

        None if one is incomplete, published, or of a metric without a known interval.
        """
        cells = [self.cells[i] for i in positions]
        found = [cell.estimate for cell in cells if cell.complete and cell.estimate is not None]
        return mean_of(found) if found and len(found) == len(cells) else None

    def interval_of(self, positions: Sequence[int]) -> Interval | None:
        """The 95 % interval of the mean over these cells."""
        estimate = self.estimate_of(positions)
        if estimate is None:
            return None
        cell = self.cells[positions[0]]
        if len(positions) == 1 and cell.ci_low is not None and cell.ci_high is not None:
            return Interval(estimate.mean, cell.ci_low, cell.ci_high)
        return inside(estimate.interval)

    @property
    def one_network(self) -> bool:
        """Whether intervals are about these trained networks only, because a task has one seed."""
        return any(self.cells[i].one_network for i in self.tasks)

    @property
    def at_least(self) -> bool:
        """Whether intervals cover more than they state: it is not known which images each of several seeds got right."""
        return any(self.cells[i].seeds > 1 and not self.cells[i].known_images for i in self.tasks)

    @property
    def conformant(self) -> bool:
        """Whether every item is known to hold for every record."""
        return bool(self.conformance) and all(item.holds for item in self.conformance)

    @property
    def departs(self) -> bool:
        """Whether an item does not hold for a record."""
        return any(item.fails for item in self.conformance)


GROUP_MEAN = "group mean"


@dataclass(frozen=True)
class Board:
    """The leaderboard of one setting."""

    key: str
    label: str
    protocol: str
    budget: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    limit: int | None
    name: SettingName
    common: tuple[int, ...] = ()  # the tasks that all rows have, where some rows lack others
    draws_images: bool = False  # seeds draw the training images, which backbones with the same seed share
    pairs: tuple[Pair, ...] = ()

    @property
    def measured(self) -> list[Row]:
        """The rows that were measured here."""
        return [row for row in self.rows if not row.published]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels of the columns."""
        return tuple(column.label for column in self.columns)

    @property
    def notes(self) -> list[str]:
        """Which columns do not show the metric that suites ask for, and which values are lacking, with the reasons."""
        notes = [f"{column.task}: {column.note}" for column in self.columns if column.note]
        for i, column in enumerate(self.columns):
            reasons = dict.fromkeys(row.cells[i].lacking for row in self.rows if row.cells[i].lacking)
            notes += [f"{column.task}: {reason}" for reason in reasons]
        return notes

    @property
    def without_interval(self) -> tuple[str, ...]:
        """The labels of the columns with scores of which no interval is known."""
        measured = self.measured
        return tuple(
            column.label
            for i, column in enumerate(self.columns)
            if any(row.cells[i].value is not None and row.cells[i].ci_low is None for row in measured)
        )

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """The VTAB groups with the positions of their tasks; empty unless all three groups have tasks."""
        positions = {
            group: tuple(i for i, c in enumerate(self.columns) if c.group == group and c.counted)
            for group in VTAB_GROUPS
        }
        return positions if all(positions.values()) else {}

    def group_means(self, row: Row) -> list[tuple[str, float | None]]:
        """The mean of each VTAB group and the mean of the three, which differs from the mean over tasks."""
        means = [(group, row.mean_of(positions)) for group, positions in self.groups.items()]
        if not means:
            return []
        known = [mean for _, mean in means if mean is not None]
        return [*means, (GROUP_MEAN, statistics.fmean(known) if len(known) == len(means) else None)]

    def group_intervals(self, row: Row) -> list[Interval | None]:
        """The 95 % intervals of `group_means`, in their order."""
        every = [row.estimate_of(positions) for positions in self.groups.values()]
        known = [estimate for estimate in every if estimate is not None]
        if not every:
            return []
        whole = inside(mean_of(known).interval) if len(known) == len(every) else None
        return [*(row.interval_of(positions) for positions in self.groups.values()), whole]

    @property
    def heads(self) -> list[tuple[str, int]]:
        """Headings over neighbouring columns of one group, as (group, number of columns); none without groups."""
        if not self.groups:
            return []
        found: list[tuple[str, int]] = []
        for column in self.columns:
            same = found and found[-1][0] == column.group
            found = [*found[:-1], (column.group, found[-1][1] + 1)] if same else [*found, (column.group, 1)]
        return found


def any_published(boards: Iterable[Board]) -> bool:
    """Whether any of their rows is published."""
    return any(row.published for board in boards for row in board.rows)
