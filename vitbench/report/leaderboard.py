"""What a page shows, as plain data: boards of rows of cells. No mean is ever taken over missing cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitbench.report.published_match import Reference


@dataclass(frozen=True)
class Column:
    """A task, or a further metric of one, which then counts in no mean; `metric` '' is the task's first.

    `group` is VTAB's, `dataset` what published rows call the data.
    """

    label: str
    task: str
    metric: str = ""
    group: str = ""
    dataset: str = ""

    @property
    def short(self) -> str:
        """The label under a group's heading, which says already that it is VTAB's."""
        return self.label.removeprefix("vtab/") if self.group else self.label

    @property
    def counted(self) -> bool:
        """Whether means are over it."""
        return not self.metric


@dataclass(frozen=True)
class Cell:
    """One backbone on one task in one setting. Fractions; the interval is over test images, the spread over seeds."""

    value: float | None
    ci_low: float = 0.0
    ci_high: float = 0.0
    spread: float | None = None
    by_seed: tuple[float, ...] = ()
    seeds: int = 0
    seeds_expected: int = 1
    n_test: int = 0
    failed: int = 0
    best: bool = False
    departures: tuple[str, ...] = ()
    name: str = ""
    reference: Reference | None = None
    said: str = ""  # of a published value: where and how

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return self.value is not None and self.seeds >= self.seeds_expected


@dataclass(frozen=True)
class Item:
    """An item of the conformance list over all records of a row."""

    item: str
    ok: int
    records: int
    reasons: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it does for every record."""
        return self.ok == self.records


@dataclass(frozen=True)
class Compute:
    """Three quantities that are never mixed: A published pre-training, B counted FLOPs, C measured here.

    `core_days` are as printed in `core_days_source`, or converted from printed exaFLOPs, with the range in `estimated`.
    """

    core_days: float | None = None
    core_days_source: str = ""
    estimated: tuple[float, float] | None = None
    flops_per_image: int | None = None
    size_px: int | None = None
    seconds: float | None = None
    joules: float | None = None
    device: str = ""


@dataclass(frozen=True)
class Row:
    """A backbone in one setting, measured here or quoted from a source."""

    backbone: str
    family: str
    weights: str
    pretrain_data: str
    params: int | None
    compute: Compute
    cells: tuple[Cell, ...]
    counted: tuple[bool, ...]
    rank: int | None = None
    conformance: tuple[Item, ...] = ()
    source: str = ""  # of a published row
    weak: bool = False

    @property
    def published(self) -> bool:
        """Whether it is quoted, not measured."""
        return bool(self.source)

    @property
    def tasks(self) -> tuple[int, ...]:
        """Places of the cells that means are over."""
        return tuple(i for i, counts in enumerate(self.counted) if counts)

    @property
    def done(self) -> int:
        """How many tasks are complete."""
        return sum(self.cells[i].complete for i in self.tasks)

    @property
    def mean(self) -> float | None:
        """The mean over tasks, only if all are there."""
        return self.mean_of(self.tasks)

    def mean_of(self, places: Sequence[int]) -> float | None:
        """The mean over these cells, only if all are complete."""
        cells = [self.cells[i] for i in places]
        if not cells or not all(cell.complete for cell in cells):
            return None
        return statistics.fmean(cell.value for cell in cells if cell.value is not None)

    @property
    def conformant(self) -> bool:
        """Whether every item holds for every record."""
        return bool(self.conformance) and all(item.holds for item in self.conformance)


VTAB_GROUPS = ("natural", "specialized", "structured")


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

    @property
    def tasks(self) -> tuple[str, ...]:
        """The columns' labels."""
        return tuple(column.label for column in self.columns)

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """VTAB's groups with the places of their tasks; empty unless all three are there."""
        places = {
            group: tuple(i for i, c in enumerate(self.columns) if c.group == group and c.counted)
            for group in VTAB_GROUPS
        }
        return places if all(places.values()) else {}

    def group_means(self, row: Row) -> list[tuple[str, float | None]]:
        """The mean of each of VTAB's groups, and the mean of these means: not the same as the mean over tasks."""
        means = [(group, row.mean_of(places)) for group, places in self.groups.items()]
        if not means:
            return []
        known = [mean for _, mean in means if mean is not None]
        return [*means, ("group means", statistics.fmean(known) if len(known) == len(means) else None)]

    @property
    def heads(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group, as (group, how many); a board without groups has none."""
        if not self.groups:
            return []
        found: list[tuple[str, int]] = []
        for column in self.columns:
            same = found and found[-1][0] == column.group
            found = [*found[:-1], (column.group, found[-1][1] + 1)] if same else [*found, (column.group, 1)]
        return found


def any_published(boards: Iterable[Board]) -> bool:
    """Whether a row of theirs is quoted."""
    return any(row.published for board in boards for row in board.rows)
