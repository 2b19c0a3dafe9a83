"""Paired comparison of two backbones on the same test images, and ranks of all: the results of `vitbench compare`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.record import Record
from vitbench.report.keys import component_key, distinct_labels, newest, setting_key, task_key
from vitbench.report.statistics import Correct, Interval, difference, holm, mcnemar, rank_intervals
from vitbench.store.record_file import load
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
class _Outcomes:
    """One backbone in one cell: whether each image is classified correctly, (N,) for each seed."""

    record: Record
    by_seed: dict[int, Correct]


Cells = dict[tuple[str, str], dict[str, _Outcomes]]  # (setting, task) to backbone


def outcomes_by_cell(runs: Sequence[Path], metric: str = "top1") -> Cells:
    """Per-image results of all runs by cell, on the same test images, with distinct labels for backbones.

    Raises:
        UsageError: a run has no records, or predictions are missing or damaged.
    """
    found = [
        (run, record)
        for run in map(RunDir, runs)
        for record in newest(load(run.path))
        if record.status == "ok" and metric in record.metrics
    ]
    labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for _, r in found)
    cells: Cells = defaultdict(dict)
    for run, record in found:
        correct = run.predictions(record)[f"{metric}_correct"].to_numpy(dtype=np.float64)
        cell = cells[setting_key(record.job), task_key(record)]
        outcomes = cell.setdefault(labels[component_key(record.job.backbone)], _Outcomes(record, {}))
        outcomes.by_seed[record.job.seed] = correct
    return cells


def compare(runs: Sequence[Path], first: str, second: str) -> list[Difference]:
    """The second backbone minus the first in every cell that both have, on the same test images and seeds.

    Raises:
        UsageError: a backbone has no results, or the two have no cell in common.
    """
    cells = outcomes_by_cell(runs)
    names = sorted({name for cell in cells.values() for name in cell})
    unknown = [
        Problem(f"no results of backbone {name!r}", nearest=nearest(name, names))
        for name in (first, second)
        if name not in names
    ]
    if unknown:
        raise UsageError(unknown)
    if first == second:
        raise UsageError(f"cannot compare {first!r} with itself: give two different backbones")
    found = [
        _difference(cell[first], cell[second]) for cell in cells.values() if first in cell and second in cell
    ]
    rows = [row for row in found if row is not None]
    if not rows:
        raise UsageError(f"{first!r} and {second!r} have no setting and task in common")
    adjusted = holm([row.p for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def _difference(one: _Outcomes, two: _Outcomes) -> Difference | None:
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
    by_setting: dict[str, dict[str, dict[str, _Outcomes]]] = defaultdict(lambda: defaultdict(dict))
    asked: dict[str, set[str]] = defaultdict(set)
    for (setting, task), cell in outcomes_by_cell(runs).items():
        for name, outcomes in cell.items():
            by_setting[setting][name][task] = outcomes
            asked[setting] |= {outcomes.record.job.task.label, *outcomes.record.job.suite.tasks}
    titles = distinct_labels((setting, _title(backbones)) for setting, backbones in by_setting.items())
    found = {}
    for setting, backbones in by_setting.items():
        tasks = {task for outcomes in backbones.values() for task in outcomes}
        whole = {
            name: {task: np.nan_to_num(np.stack(list(one.by_seed.values())).mean(0)) for task, one in outcomes.items()}
            for name, outcomes in backbones.items()
            if set(outcomes) == tasks and len({one.record.job.task.label for one in outcomes.values()}) >= len(asked[setting])
        }  # fmt: skip
        if len(whole) > 1:
            found[titles[setting]] = rank_intervals(whole)
    return found


def _title(backbones: dict[str, dict[str, _Outcomes]]) -> str:
    job = next(iter(next(iter(backbones.values())).values())).record.job
    return f"{job.protocol.label} · {job.budget}"
