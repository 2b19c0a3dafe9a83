"""Paired comparison of two backbones on the same test images, and ranks of all: the results of `vitbench compare`."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.record import Record
from vitbench.report.keys import CellKey, cells, component_key, distinct_labels, newest
from vitbench.report.statistics import Correct, Interval, difference, holm, mcnemar, rank_intervals
from vitbench.store.record_file import load, load_file
from vitbench.store.record_heads import heads, related
from vitbench.store.run_dir import RunDir


@dataclass(frozen=True)
class Difference:
    """Two backbones on one task: top-1 of each, the paired difference, and McNemar's p-value for the first common seed."""

    task: str
    protocol: str
    budget: str
    seeds: int
    n_test: int
    first: float
    second: float
    gap: Interval
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Outcomes:
    """One cell: its backbone's label, one of its records, and by seed whether each image is classified correctly, (N,)."""

    backbone: str
    record: Record
    by_seed: dict[int, Correct]


def outcomes_by_cell(
    runs: Sequence[Path], metric: str = "top1", backbones: Sequence[str] = ()
) -> dict[CellKey, Outcomes]:
    """Per-image results of all runs by cell, on the same test images, with distinct labels for backbones.

    With `backbones`, only theirs are read.

    Raises:
        UsageError: a run has no records, or predictions are missing or damaged.
    """
    run_of: dict[str, RunDir] = {}
    records: dict[str, Record] = {}
    for run, own in _records(runs, backbones):
        for record in newest(own):
            if record.status == "ok" and metric in record.metrics:
                run_of[record.key], records[record.key] = run, record
    labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records.values())

    def correct(record: Record) -> Correct:
        return run_of[record.key].predictions(record)[f"{metric}_correct"].to_numpy(dtype=np.float64)

    return {
        cell: Outcomes(labels[cell.backbone], own[0], {record.job.seed: correct(record) for record in own})
        for cell, own in cells(records.values()).items()
        if not backbones or _plain(labels[cell.backbone]) in map(_plain, backbones)
    }


def _records(runs: Sequence[Path], backbones: Sequence[str]) -> Iterator[tuple[RunDir, list[Record]]]:
    """The records of each run; with `backbones`, only those that decide the results of backbones shown under these labels."""
    if not backbones:
        yield from ((RunDir(run), load(run)) for run in runs)
        return
    found = {run: heads(run) for run in runs}
    names = {*backbones, *map(_plain, backbones)}
    wanted = set(related(itertools.chain.from_iterable(found.values()), names))
    for run, own in found.items():
        yield RunDir(run), [load_file(Path(head.file)) for head in own if head in wanted]


def _plain(label: str) -> str:
    """A backbone's label without what `distinct_labels` adds to labels that are shared."""
    return re.sub(r" #[0-9a-f]{4}$", "", label)


def compare(runs: Sequence[Path], first: str, second: str) -> list[Difference]:
    """The second backbone minus the first in every cell that both have, on the same test images and seeds.

    Raises:
        UsageError: a backbone has no results, or the two have no cell in common.
    """
    outcomes = outcomes_by_cell(runs, backbones=(first, second))
    known = {each.backbone for each in outcomes.values()}
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
    one, two = (
        {(cell.setting, cell.task): each for cell, each in outcomes.items() if each.backbone == name}
        for name in (first, second)
    )
    found = [_difference(one[common], two[common]) for common in one if common in two]
    rows = [row for row in found if row is not None]
    if not rows:
        raise UsageError(f"{first!r} and {second!r} have no setting and task in common")
    adjusted = holm([row.p for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def _difference(one: Outcomes, two: Outcomes) -> Difference | None:
    seeds = sorted(set(one.by_seed) & set(two.by_seed))
    same_images = (
        one.record.data and two.record.data and one.record.data.fingerprints == two.record.data.fingerprints
    )
    if not seeds or not same_images:
        return None
    a, b = (np.stack([each.by_seed[seed] for seed in seeds]) for each in (one, two))
    counted = ~np.isnan(a).any(0) & ~np.isnan(b).any(0)
    a, b = a[:, counted], b[:, counted]
    job = one.record.job
    return Difference(
        job.task.label, job.protocol.label, job.budget, len(seeds), int(counted.sum()), float(a.mean()), float(b.mean()),
        difference(b.mean(0), a.mean(0)), mcnemar(a[0] == 1, b[0] == 1),
    )  # fmt: skip


def ranks(runs: Sequence[Path]) -> dict[str, dict[str, Interval]]:
    """By setting: the rank of each backbone with its interval; like the board, only backbones with all tasks."""
    by_setting: dict[str, dict[str, dict[str, Outcomes]]] = defaultdict(lambda: defaultdict(dict))
    asked: dict[str, set[str]] = defaultdict(set)
    for cell, found in outcomes_by_cell(runs).items():
        by_setting[cell.setting][found.backbone][cell.task] = found
        asked[cell.setting] |= {found.record.job.task.label, *found.record.job.suite.tasks}
    titles = distinct_labels((setting, _title(backbones)) for setting, backbones in by_setting.items())
    ranked = {}
    for setting, backbones in by_setting.items():
        tasks = {task for outcomes in backbones.values() for task in outcomes}
        whole = {
            name: {task: np.nan_to_num(np.stack(list(one.by_seed.values())).mean(0)) for task, one in outcomes.items()}
            for name, outcomes in backbones.items()
            if set(outcomes) == tasks and len({one.record.job.task.label for one in outcomes.values()}) >= len(asked[setting])
        }  # fmt: skip
        if len(whole) > 1:
            ranked[titles[setting]] = rank_intervals(whole)
    return ranked


def _title(backbones: dict[str, dict[str, Outcomes]]) -> str:
    job = next(iter(next(iter(backbones.values())).values())).record.job
    return f"{job.protocol.label} · {job.budget}"
