"""Comparison of two backbones on the same test images, task by task and in the mean: the results of `vitbench compare A B`."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.record import Record
from vitbench.report.keys import CellKey, cells, component_key, distinct_labels, newest
from vitbench.report.main_metric import draws_images, is_seeded, main_metric_name
from vitbench.report.outcomes import Predictions, tables
from vitbench.report.statistics import Estimate, Interval, difference, holm, mean_of
from vitbench.store.record_file import load, load_file
from vitbench.store.record_heads import heads, related

# What an interval is about: backbones, whatever the seed, or only the networks that one seed has given.
Scope = Literal["backbones", "trained networks"]


@dataclass(frozen=True)
class Difference:
    """Two backbones on one task: their scores, and the second minus the first on the same test images.

    `seeds` of each; `paired`: seeds are compared one by one. `p_holm` is None of a cell that lacks seeds: it is in no family.
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
    gap: Interval
    p: float
    scope: Scope
    p_holm: float | None = None

    @property
    def complete(self) -> bool:
        """Whether both have all seeds."""
        return min(self.seeds) >= self.seeds_expected


@dataclass(frozen=True)
class MeanDifference:
    """The second backbone minus the first in the mean over all tasks of a setting; the tasks are fixed, not drawn."""

    protocol: str
    budget: str
    tasks: int
    first: float
    second: float
    gap: Interval
    p: float
    scope: Scope


@dataclass(frozen=True)
class Comparison:
    """The differences in all cells, those in the means, and in words the family that Holm's correction is for."""

    cells: tuple[Difference, ...]
    means: tuple[MeanDifference, ...]
    family: str


@dataclass(frozen=True)
class Found:
    """One cell: its backbone's label, its records by seed, and how many seeds a complete cell has."""

    backbone: str
    records: tuple[Record, ...]
    expected: int

    @property
    def record(self) -> Record:
        """The first of its records."""
        return self.records[0]

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
    for cell, own in by_cell.items():
        expected[cell.setting] = max(expected[cell.setting], *(record.job.suite.seeds for record in own))
    scored = {cell: tuple(r for r in own if r.status == "ok" and r.metrics) for cell, own in by_cell.items()}
    found = {
        cell: Found(labels[cell.backbone], own, expected[cell.setting])
        for cell, own in scored.items()
        if own and (not backbones or _plain(labels[cell.backbone]) in map(_plain, backbones))
    }
    return found, Predictions(runs)


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
    adjusted = iter(holm([row.p for row, _ in compared.values() if row.complete]))
    rows = tuple(replace(row, p_holm=next(adjusted)) if row.complete else row for row, _ in compared.values())
    count = sum(row.complete for row in rows)
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


def _difference(one: Found, two: Found, predictions: Predictions) -> tuple[Difference, Estimate]:
    """The row of one cell, and the estimate of its difference."""
    ours, theirs = _on_common_seeds(one.records, two.records)
    paired = draws_images(one.record.job) and [r.job.seed for r in ours] == [r.job.seed for r in theirs]
    metric = main_metric_name(one.record) or ""
    a, b = tables([ours, theirs], predictions, metric)
    estimate = difference(a.astype(np.float64), b.astype(np.float64), paired=paired)
    job, (low, high) = one.record.job, (float(a.mean()), float(b.mean()))
    gap = replace(estimate.interval, value=high - low)
    scope: Scope = "backbones" if {one.scope, two.scope} == {"backbones"} else "trained networks"
    row = Difference(
        job.task.label, job.protocol.label, job.budget, metric, (len(ours), len(theirs)), max(one.expected, two.expected),
        paired, a.shape[1], low, high, gap, estimate.p, scope,
    )  # fmt: skip
    return row, replace(estimate, mean=high - low)


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
    compared: Mapping[tuple[str, str], tuple[Difference, Estimate]],
) -> Iterator[MeanDifference]:
    """Of each setting with several tasks of which both backbones have all, like a row that is ranked."""
    by_setting: dict[str, list[tuple[Difference, Estimate]]] = defaultdict(list)
    asked: dict[str, set[str]] = defaultdict(set)
    for (setting, task), found in compared.items():
        by_setting[setting].append(found)
        for each in pairs[setting, task]:
            asked[setting] |= {each.record.job.task.label, *each.record.job.suite.tasks}
    for setting, own in by_setting.items():
        rows = [row for row, _ in own]
        whole = {row.task for row in rows if row.complete} >= asked[setting]
        if len(rows) > 1 and whole:
            estimate = mean_of([each for _, each in own])
            first, second = (
                sum(values) / len(rows) for values in zip(*((r.first, r.second) for r in rows), strict=True)
            )
            scope: Scope = "backbones" if all(r.scope == "backbones" for r in rows) else "trained networks"
            yield MeanDifference(
                rows[0].protocol,
                rows[0].budget,
                len(rows),
                first,
                second,
                estimate.interval,
                estimate.p,
                scope,
            )
