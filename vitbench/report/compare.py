"""Comparison of two backbones on the same test images, task by task and in the mean: the results of `vitbench compare A B`."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.record import Record
from vitbench.report.board_statistics import cell_estimate
from vitbench.report.keys import CellKey, cells, component_key, distinct_labels, newest
from vitbench.report.outcomes import Predictions, tables
from vitbench.report.seeded import draws_images, is_seeded
from vitbench.report.shown_metric import Score, asked_metrics, is_by_image, main_metric_name, value_of
from vitbench.report.statistics import Estimate, Interval, Point, combined, difference, holm, mean_of
from vitbench.store.record_file import load, load_file
from vitbench.store.record_heads import heads, related

# What an interval is about: backbones, whatever the seed, or only the networks that one seed has given.
Scope = Literal["backbones", "trained networks"]


@dataclass(frozen=True)
class Difference:
    """Two backbones on one task: their scores, and the second minus the first on the same test images.

    `clusters` of the test images, if they belong together. `seeds` of each; `paired`: seeds are compared one by one.
    `known_images`: predictions say which images are correct; else errors are taken for independent. `gap` is a `Point`, and
    `p` None, if no interval of the metric is known. `p_holm` is None of a cell without p or that lacks seeds: no family's.
    """

    task: str
    protocol: str
    budget: str
    metric: str
    seeds: tuple[int, int]
    seeds_expected: int
    paired: bool
    n_test: int
    first: float
    second: float
    gap: Interval | Point
    p: float | None
    scope: Scope
    clusters: int | None = None
    p_holm: float | None = None
    known_images: bool = True

    @property
    def complete(self) -> bool:
        """Whether both have all seeds."""
        return min(self.seeds) >= self.seeds_expected


@dataclass(frozen=True)
class MeanDifference:
    """The second backbone minus the first in the mean over all tasks of a setting; the tasks are fixed, not drawn.

    `gap` is a `Point`, and `p` None, if no interval is known of a task's metric.
    """

    protocol: str
    budget: str
    tasks: int
    first: float
    second: float
    gap: Interval | Point
    p: float | None
    scope: Scope


@dataclass(frozen=True)
class Comparison:
    """The differences in all cells, those in the means, and in words the family that Holm's correction is for."""

    cells: tuple[Difference, ...]
    means: tuple[MeanDifference, ...]
    family: str


@dataclass(frozen=True)
class Found:
    """One cell: its backbone's label, its records by seed, how many seeds a complete cell has, and the metric of the board.

    Each record has a value of the metric; '' is the task's own.
    """

    backbone: str
    records: tuple[Record, ...]
    expected: int
    metric: str = ""

    @property
    def record(self) -> Record:
        """The first of its records."""
        return self.records[0]

    @property
    def by_image(self) -> bool:
        """Whether predictions say which images are correct by the metric."""
        return all(is_by_image(record, self.metric) for record in self.records)

    @property
    def complete(self) -> bool:
        """Whether every seed has a score."""
        return len(self.records) >= self.expected

    @property
    def scope(self) -> Scope:
        """What its mean stands for."""
        return "trained networks" if len(self.records) == 1 and is_seeded(self.record.job) else "backbones"


def found_cells(
    runs: Sequence[Path], backbones: Sequence[str] = ()
) -> tuple[dict[CellKey, Found], Predictions]:
    """The scores of all runs by cell, with distinct labels for backbones, and where their predictions are.

    With `backbones`, only theirs are read. A cell has as many seeds as any record of its setting asks for, as on the board.

    Raises:
        UsageError: a run has no records.
    """
    records: dict[str, Record] = {}
    for own in _records(runs, backbones):
        records.update({record.key: record for record in newest(own)})
    labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records.values())
    by_cell = cells(records.values())
    expected: dict[str, int] = defaultdict(int)
    by_setting: dict[str, list[Record]] = defaultdict(list)
    for cell, own in by_cell.items():
        expected[cell.setting] = max(expected[cell.setting], *(record.job.suite.seeds for record in own))
        by_setting[cell.setting] += own
    asked = {setting: asked_metrics(own) for setting, own in by_setting.items()}
    found = {}
    for cell, own in by_cell.items():
        metric, _ = asked[cell.setting][own[0].job.task.label]
        scored = tuple(r for r in own if r.status == "ok" and value_of(r, metric))
        if scored and (not backbones or _plain(labels[cell.backbone]) in map(_plain, backbones)):
            found[cell] = Found(labels[cell.backbone], scored, expected[cell.setting], metric)
    return found, Predictions(runs)


def scores_of(records: Sequence[Record], metric: str) -> list[Score]:
    """The records' values of a metric, '' for the task's own."""
    return [score for record in records if (score := value_of(record, metric))]


def _records(runs: Sequence[Path], backbones: Sequence[str]) -> Iterator[list[Record]]:
    """The records of each run; with `backbones`, only those that decide the results of backbones shown under these labels."""
    if not backbones:
        yield from (load(run) for run in runs)
        return
    found = {run: heads(run) for run in runs}
    names = {*backbones, *map(_plain, backbones)}
    wanted = set(related(itertools.chain.from_iterable(found.values()), names))
    for own in found.values():
        yield [load_file(Path(head.file)) for head in own if head in wanted]


def _plain(label: str) -> str:
    """A backbone's label without what `distinct_labels` adds to labels that are shared."""
    return re.sub(r" #[0-9a-f]{4}$", "", label)


def compare(runs: Sequence[Path], first: str, second: str) -> Comparison:
    """The second backbone minus the first in every cell that both have, on the same test images, and in the means over tasks.

    Raises:
        UsageError: a backbone has no results, the two have no cell in common, or predictions are missing or damaged.
    """
    found, predictions = found_cells(runs, (first, second))
    _check_names(runs, {each.backbone for each in found.values()}, first, second)
    one, two = (
        {(cell.setting, cell.task): each for cell, each in found.items() if each.backbone == name}
        for name in (first, second)
    )
    pairs = {
        key: (one[key], two[key])
        for key in one
        if key in two and _same_images(one[key].record, two[key].record)
    }
    if not pairs:
        raise UsageError(f"{first!r} and {second!r} have no setting and task in common")
    compared = {key: _difference(*pair, predictions) for key, pair in pairs.items()}
    adjusted = iter(holm([row.p for row, _ in compared.values() if row.p is not None and row.complete]))
    rows = tuple(
        replace(row, p_holm=next(adjusted)) if row.p is not None and row.complete else row
        for row, _ in compared.values()
    )
    count = sum(row.p_holm is not None for row in rows)
    family = f"p-values are Holm-corrected for the {count} complete cells of this table"
    return Comparison(rows, tuple(_means(pairs, compared)), family)


def _check_names(runs: Sequence[Path], known: set[str], first: str, second: str) -> None:
    unknown = {first, second} - known
    if unknown:
        names = sorted(known | {head.backbone for run in runs for head in heads(run)} - unknown)
        raise UsageError(
            Problem(f"no results of backbone {name!r}", nearest=nearest(name, names))
            for name in (first, second)
            if name in unknown
        )
    if first == second:
        raise UsageError(f"cannot compare {first!r} with itself: give two different backbones")


def _same_images(one: Record, two: Record) -> bool:
    return bool(one.data and two.data and one.data.fingerprints == two.data.fingerprints)


def _difference(one: Found, two: Found, predictions: Predictions) -> tuple[Difference, Estimate | None]:
    """The row of one cell, and the estimate of its difference, None if no interval is known."""
    ours, theirs = _on_common_seeds(one.records, two.records)
    paired = draws_images(one.record.job) and [r.job.seed for r in ours] == [r.job.seed for r in theirs]
    metric, known = one.metric or main_metric_name(one.record) or "", one.by_image and two.by_image
    estimate: Estimate | None
    scores = [scores_of(ours, metric), scores_of(theirs, metric)]
    n_test = min(each.n for own in scores for each in own)
    if known:
        a, b = tables([ours, theirs], predictions, metric)
        estimate = difference(a.astype(np.float64), b.astype(np.float64), paired=paired)
        low, high = float(a.mean()), float(b.mean())
    else:
        estimate = _of_independent(*scores)
        low, high = (statistics.fmean(each.value for each in own) for own in scores)
    job = one.record.job
    gap = replace(estimate.interval, value=high - low) if estimate else Point(high - low)
    scope: Scope = "backbones" if {one.scope, two.scope} == {"backbones"} else "trained networks"
    row = Difference(
        job.task.label, job.protocol.label, job.budget, metric, (len(ours), len(theirs)), max(one.expected, two.expected),
        paired and known, n_test, low, high, gap, estimate.p if estimate else None, scope, scores[0][0].clusters,
        known_images=known,
    )  # fmt: skip
    return row, replace(estimate, mean=high - low) if estimate else None


def _of_independent(ours: Sequence[Score], theirs: Sequence[Score]) -> Estimate | None:
    """The difference where it is not known which images each got right; None if no interval is known.

    Backbones mostly fail on the same images, so that it is known better than this says.
    """
    one, two = cell_estimate(ours, None), cell_estimate(theirs, None)
    return combined([two, one], [1.0, -1.0]) if one and two else None


def _on_common_seeds(
    ours: tuple[Record, ...], theirs: tuple[Record, ...]
) -> tuple[Sequence[Record], Sequence[Record]]:
    """The records of seeds that both have, where a seed draws the training images and any is common; else all records."""
    common = {r.job.seed for r in ours} & {r.job.seed for r in theirs}
    if not draws_images(ours[0].job) or not common:
        return ours, theirs
    one, two = ([r for r in records if r.job.seed in common] for records in (ours, theirs))
    return one, two


def _means(
    pairs: Mapping[tuple[str, str], tuple[Found, Found]],
    compared: Mapping[tuple[str, str], tuple[Difference, Estimate | None]],
) -> Iterator[MeanDifference]:
    """Of each setting with several tasks of which both backbones have all, like a row that is ranked."""
    by_setting: dict[str, list[tuple[Difference, Estimate | None]]] = defaultdict(list)
    asked: dict[str, set[str]] = defaultdict(set)
    for (setting, task), found in compared.items():
        by_setting[setting].append(found)
        for each in pairs[setting, task]:
            asked[setting] |= {each.record.job.task.label, *each.record.job.suite.tasks}
    for setting, own in by_setting.items():
        rows = [row for row, _ in own]
        whole = {row.task for row in rows if row.complete} >= asked[setting]
        if len(rows) > 1 and whole:
            known = [each for _, each in own if each]
            estimate = mean_of(known) if len(known) == len(own) else None
            first, second = (
                statistics.fmean(values) for values in zip(*((r.first, r.second) for r in rows), strict=True)
            )
            scope: Scope = "backbones" if all(r.scope == "backbones" for r in rows) else "trained networks"
            yield MeanDifference(
                rows[0].protocol,
                rows[0].budget,
                len(rows),
                first,
                second,
                estimate.interval if estimate else Point(second - first),
                estimate.p if estimate else None,
                scope,
            )
