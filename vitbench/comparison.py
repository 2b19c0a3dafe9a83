"""Two backbones on the same images, and all of them by rank: what `vitbench compare` says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitbench.errors import Problem, UsageError, nearest
from vitbench.records import Record
from vitbench.report.frame import component_key, newest, setting_key
from vitbench.report.statistics import Correct, Interval, difference, holm, mcnemar, rank_intervals
from vitbench.store import Run, load


@dataclass(frozen=True)
class Difference:
    """A cell of two backbones: top-1 of each, the paired difference, and McNemar's p-value for the first common seed."""

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
class _Answers:
    """One backbone in one cell: right or wrong by seed and image, (N,) each."""

    record: Record
    by_seed: dict[int, Correct]


Cells = dict[tuple[str, str], dict[str, _Answers]]  # (setting, task) to backbone


def answers(runs: Sequence[Path], metric: str = "top1") -> Cells:
    """Per-image results of all runs, cell by cell.

    Raises:
        UsageError: a run has no records, or predictions are missing or damaged.
    """
    cells: Cells = defaultdict(dict)
    for run in map(Run, runs):
        for record in newest(load(run.path)):
            if record.status != "ok" or metric not in record.metrics:
                continue
            correct = run.predictions(record)[f"{metric}_correct"].to_numpy(dtype=np.float64)
            cell = cells[setting_key(record.job), component_key(record.job.task)]
            held = cell.setdefault(record.job.backbone.label, _Answers(record, {}))
            held.by_seed[record.job.seed] = correct
    return cells


def compare(runs: Sequence[Path], first: str, second: str) -> list[Difference]:
    """The second backbone minus the first in every cell that both have, on the same test images and seeds.

    Raises:
        UsageError: a backbone is not there, or they have no cell in common.
    """
    cells = answers(runs)
    names = sorted({name for cell in cells.values() for name in cell})
    unknown = [
        Problem(f"no results of backbone {name!r}", nearest=nearest(name, names))
        for name in (first, second)
        if name not in names
    ]
    if unknown:
        raise UsageError(unknown)
    found = [
        _difference(cell[first], cell[second]) for cell in cells.values() if first in cell and second in cell
    ]
    rows = [row for row in found if row is not None]
    if not rows:
        raise UsageError(f"{first!r} and {second!r} have no setting and task in common")
    adjusted = holm([row.p for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def _difference(one: _Answers, two: _Answers) -> Difference | None:
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
    """By setting: every backbone's rank with its interval, of those that have all tasks of the setting."""
    by_setting: dict[str, dict[str, dict[str, Correct]]] = defaultdict(lambda: defaultdict(dict))
    titles: dict[str, str] = {}
    for (setting, task), cell in answers(runs).items():
        for name, held in cell.items():
            titles[setting] = f"{held.record.job.protocol.label} · {held.record.job.budget}"
            scores = np.stack(list(held.by_seed.values()))
            by_setting[setting][name][task] = np.nan_to_num(scores.mean(0))
    found = {}
    for setting, backbones in by_setting.items():
        most = max(len(tasks) for tasks in backbones.values())
        whole = {name: tasks for name, tasks in backbones.items() if len(tasks) == most}
        if len(whole) > 1:
            found[titles[setting]] = rank_intervals(whole)
    return found
