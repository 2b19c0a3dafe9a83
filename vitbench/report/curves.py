"""What charts and lists are drawn from: shots curves, trials by a swept option, and jobs without a score."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitbench.records import Record, shots_of
from vitbench.report.frame import curve_key
from vitbench.report.views import main_metric, setting_label


@dataclass(frozen=True)
class ShotsPoint:
    """One point of a shots curve, with the lowest and highest seed."""

    task: str
    protocol: str
    backbone: str
    shots: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TrialPoint:
    """What one setting of a swept option scored on the split that chooses."""

    task: str
    backbone: str
    seed: int
    option: str
    setting: float
    value: float
    chosen: bool


@dataclass(frozen=True)
class FailedJob:
    """A job without a score."""

    title: str
    kind: str
    message: str
    where: str
    key: str


def shots_points(records: Sequence[Record]) -> list[ShotsPoint]:
    """Scores at every N-shot budget; what was measured differently is a curve of its own."""
    shot = [record for record in records if shots_of(record.job.budget) and main_metric(record)]
    pairs = [(curve_key(record.job), _curve(record)) for record in shot]
    labels = dict(pairs)
    names = list(labels.values())
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (key, _), record in zip(pairs, shot, strict=True):
        metric = main_metric(record)
        if metric is not None:
            found[key, shots_of(record.job.budget) or 0].append(metric.value)
    points = []
    for (key, shots), values in found.items():
        task, protocol, backbone = labels[key]
        apart = f" #{key[:4]}" if names.count(labels[key]) > 1 else ""
        mean = statistics.fmean(values)
        points.append(ShotsPoint(task, protocol, backbone + apart, shots, mean, min(values), max(values)))
    return points


def _curve(record: Record) -> tuple[str, str, str]:
    job = record.job
    protocol = setting_label(record).replace(f" · {job.budget}", "", 1)
    return job.task.label, protocol, job.backbone.label


def trial_points(records: Iterable[Record]) -> list[TrialPoint]:
    """Trials of jobs that swept one number, such as the learning rate."""
    found = []
    for record in records:
        trials = [trial for trial in record.trials if trial.value is not None]
        names = {name for trial in trials for name in trial.options}
        swept = [n for n in sorted(names) if len({repr(trial.options.get(n)) for trial in trials}) > 1]
        if len(swept) != 1:
            continue
        option, job = swept[0], record.job
        for trial in trials:
            setting = trial.options.get(option)
            if isinstance(setting, int | float) and trial.value is not None:
                found.append(
                    TrialPoint(
                        job.task.label, job.backbone.label, job.seed, option, setting, trial.value, trial.chosen
                    )
                )  # fmt: skip
    return found


def failures(records: Iterable[Record]) -> list[FailedJob]:
    """Every job without a score."""
    return [
        FailedJob(r.job.title, r.failure.kind, r.failure.message, r.failure.where, r.key)
        for r in records
        if r.failure is not None
    ]
