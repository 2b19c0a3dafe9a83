"""Parts of a leaderboard as plain data: columns, cells, conformance items, and standings by a mean."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vitbench.report.published_match import PublishedMatch
from vitbench.report.statistics import Estimate, Interval


@dataclass(frozen=True)
class Column:
    """A task, or an additional metric of a task, which is not part of any mean; `metric` is '' for the main one.

    `group` is the VTAB group, `dataset` the name in published rows; `decimals` of its percentages. `shown` is the metric that
    suites ask for in place of the task's own main one; `note` says what a reader must know of that.
    """

    label: str
    task: str
    metric: str = ""
    group: str = ""
    dataset: str = ""
    shown: str = ""
    note: str = ""
    decimals: int = 1

    @property
    def short(self) -> str:
        """The label without `vtab/` if the column is under the heading of a VTAB group."""
        return self.label.removeprefix("vtab/") if self.group else self.label

    @property
    def counted(self) -> bool:
        """Whether means include it."""
        return not self.metric


@dataclass(frozen=True)
class Cell:
    """One backbone on one task in one setting, in fractions.

    The 95 % interval is over test images and, with several seeds, over seeds; `image_low` and `image_high` are its part over
    images. Of a metric without a known interval there are neither these nor an `estimate`. `spread` is the standard deviation
    over seeds (n - 1). `one_network`: one seed was run of a result that depends on it. `known_images`: predictions say which
    images each seed got right; without them, intervals of several seeds are longer. `lacking` says why records have no value of
    the column's metric.
    """

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    image_low: float | None = None
    image_high: float | None = None
    spread: float | None = None
    estimate: Estimate | None = None
    exact: Fraction | None = None
    one_network: bool = False
    known_images: bool = False
    decimals: int = 1
    by_seed: tuple[float, ...] = ()
    seeds: int = 0
    seeds_expected: int = 1
    n_test: int = 0
    clusters: int | None = None
    failed: int = 0
    best: bool = False
    departures: tuple[str, ...] = ()
    name: str = ""
    published: PublishedMatch | None = None
    lacking: str = ""
    provenance: str = ""  # of a published value: source, image size, runs

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return self.value is not None and self.seeds >= self.seeds_expected

    @property
    def parts(self) -> str:
        """For scripts: the ends of the interval, then the parts of its estimate; '' where none is known."""
        if self.estimate is None or self.ci_low is None or self.ci_high is None:
            return ""
        bounds = [f"{bound:.4f}" for bound in (self.ci_low, self.ci_high)]
        return ",".join([*bounds, *map(repr, self.estimate.parts)])


@dataclass(frozen=True)
class Item:
    """An item of the conformance list over all records of a row: for how many it holds, and for how many that is not known."""

    item: str
    ok: int
    records: int
    reasons: tuple[str, ...]
    unknown: int = 0

    @property
    def holds(self) -> bool:
        """Whether it is known to hold for every record."""
        return self.ok == self.records

    @property
    def fails(self) -> int:
        """For how many records it does not hold."""
        return self.records - self.ok - self.unknown


@dataclass(frozen=True)
class Standing:
    """A row's mean over some tasks with its 95 % interval, and its rank by it with the 95 % interval of that.

    `first`: it cannot be told from the best. Without known intervals, there is the rank by the mean alone.
    """

    mean: float
    rank: int
    interval: Interval | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    first: bool = False
