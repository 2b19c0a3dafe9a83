"""How measured values differ from those of a published row: within the tolerance, or off by how much."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vitbench.core.record import Record
from vitbench.published import MEANS, PublishedRow, dataset_of
from vitbench.report.published_match import (
    PublishedMatch,
    disagreements,
    is_about,
    match_with,
    matching_rows,
    rows_for,
)
from vitbench.report.reproduction import PlannedValue, Reproduction
from vitbench.report.seeded import is_seeded
from vitbench.report.shown_metric import Score, value_of
from vitbench.report.tolerance import Runs, pooled

Outcome = Literal["within", "wide", "off", "no tolerance", "not comparable", "not measured"]
_OUTCOMES: dict[str, Outcome] = {
    "within": "within",
    "wide": "wide",
    "outside": "off",
    "unknown": "no tolerance",
}
_BASES = {
    "seeds": "the 95 % interval of the difference that seeds make, and half a unit of the last printed digit",
    "nothing random": "what decoding, resizing and float32 may add where nothing is random, and half a unit of the last digit",
    "unknown": "none is known: no spread over seeds is",
}


@dataclass(frozen=True)
class Verdict:
    """One value of a row beside the measured one, in fractions; `match` has difference and tolerance if they compare.

    `wide`: within a tolerance so wide that it says little. `std` is that of our runs.
    """

    dataset: str
    outcome: Outcome
    printed: float
    printed_std: float | None
    measured: Runs | None = None
    std: float | None = None
    match: PublishedMatch | None = None
    reasons: tuple[str, ...] = ()


def basis(match: PublishedMatch) -> str:
    """What a tolerance is, in words."""
    return _BASES[match.basis]


def verdicts(plan: Reproduction, tasks: Iterable[str], records: Sequence[Record]) -> list[Verdict]:
    """A verdict on every value of a plan that these tasks can measure, or begin to measure."""
    asked = set(tasks)
    return [_verdict(plan.row, value, records) for value in plan.measurable if asked & set(value.tasks)]


def explanations(plan: Reproduction, records: Sequence[Record]) -> list[str]:
    """What could explain a difference: known departures of the plan, and what the records note."""
    measured = [record for record in records if record.status == "ok"]
    noted = [note for record in measured for note in record.notes]
    departs = [check.reason for record in measured for check in record.conformance if not check.ok]
    return list(dict.fromkeys([*plan.departures, *departs, *noted]))


def _verdict(row: PublishedRow, value: PlannedValue, records: Sequence[Record]) -> Verdict:
    printed = row.results[value.dataset]
    std = None if printed.std is None else printed.std / 100
    found = [_of_task(records, task, value.metric) for task in value.tasks]
    missing = list(_missing(value.tasks, found, records))
    if missing:
        return Verdict(value.dataset, "not measured", printed.value / 100, std, reasons=tuple(missing))
    means = _means([list(metrics.values()) for _, metrics in found])
    measured = Runs(statistics.fmean(means), len(means))
    ours = statistics.stdev(means) if len(means) > 1 else None
    reasons = tuple(dict.fromkeys(_incomparable(row, value, [own for own, _ in found])))
    if reasons:
        return Verdict(
            value.dataset, "not comparable", printed.value / 100, std, measured, ours, reasons=reasons
        )
    seeded = is_seeded(found[0][0][0].job)
    match = match_with(row, value.dataset, measured, pooled([means]), seeded=seeded)
    return Verdict(value.dataset, _OUTCOMES[match.verdict], match.value, match.std, measured, ours, match)


def _of_task(records: Sequence[Record], task: str, metric: str) -> tuple[list[Record], dict[int, Score]]:
    """The records of a task with a score, and their scores by seed."""
    own = [record for record in records if record.job.task.name == task]
    scores = {
        record.job.seed: score
        for record in sorted(own, key=lambda record: record.job.seed)
        if (score := value_of(record, metric)) is not None
    }
    return [record for record in own if record.job.seed in scores], scores


def _missing(
    tasks: Sequence[str], found: Sequence[tuple[list[Record], dict[int, Score]]], records: Sequence[Record]
) -> Iterator[str]:
    """What has no score yet: a task, or seeds of a task."""
    without = [task for task, (_, scores) in zip(tasks, found, strict=True) if not scores]
    if without:
        some = ", ".join(without[:3]) + (", …" if len(without) > 3 else "")
        yield f"{len(without)} of {len(tasks)} tasks have no score: {some}" if len(tasks) > 1 else "no score"
    for task, (own, scores) in zip(tasks, found, strict=True):
        wanted = max((record.job.suite.seeds for record in own), default=0)
        if len(scores) < wanted:
            yield f"{task}: {len(scores)} of {wanted} seeds have a score"
    for record in records:
        if record.failure is not None and record.job.task.name in tasks:
            yield f"{record.job.title}: {record.failure.message}"


def _means(by_task: Sequence[Sequence[Score]]) -> list[float]:
    """The means over tasks, one for each seed; a task without dependence on seeds counts for each."""
    count = max(len(metrics) for metrics in by_task)
    return [
        statistics.fmean(metrics[min(seed, len(metrics) - 1)].value for metrics in by_task)
        for seed in range(count)
    ]


def _incomparable(
    row: PublishedRow, value: PlannedValue, by_task: Sequence[Sequence[Record]]
) -> Iterator[str]:
    """Why measured values are not compared with the row, though they are there."""
    sizes = {record.backbone.size_px for records in by_task for record in records if record.backbone}
    for records in by_task:
        label = records[0].job.task.label
        broken = [check for record in records for check in disagreements(record)]
        yield from (f"{label}: {check.reason}" for check in broken)
        if not broken and not _is_about_row(row, value, records):
            yield f"{label}: other weights, protocol, recipe or image size than the row's"
    if value.dataset in MEANS and max(sizes) != value.size_px:
        yield f"images of {max(sizes)} px, the row of {value.size_px} px"


def _is_about_row(row: PublishedRow, value: PlannedValue, records: Sequence[Record]) -> bool:
    """Whether records match a row, apart from the image size if the value is a mean over tasks."""
    task = records[0].job.task.name
    if value.dataset in MEANS:
        found = rows_for(records[0], dataset_of(task)) if is_about(row, task) else iter(())
    else:
        found = matching_rows(records, value.dataset)
    return any(other.id == row.id for other in found)
