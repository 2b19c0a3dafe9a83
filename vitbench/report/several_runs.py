"""A page of several runs: who measured what, on which device, with what conformance; and what several of them measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitbench.core.format import printable
from vitbench.core.record import Record
from vitbench.report.shown_metric import value_of


@dataclass(frozen=True)
class RunSummary:
    """One run of a page: its results and what they were measured with."""

    run: str
    results: int
    failed: int
    conformant: int
    backbones: tuple[str, ...]
    devices: tuple[str, ...]
    versions: tuple[str, ...]
    updated: str


@dataclass(frozen=True)
class Repeated:
    """One job that two runs measured: both scores, by seed, and the second minus the first; the board shows the second."""

    title: str
    first: RunScore
    second: RunScore

    @property
    def difference(self) -> float | None:
        """In fractions; None where one has no score."""
        if self.first.value is None or self.second.value is None:
            return None
        return self.second.value - self.first.value


@dataclass(frozen=True)
class RunScore:
    """A job's score in one run, and the device it was measured on; None if it failed there."""

    run: str
    value: float | None
    device: str


def run_summaries(measured: Mapping[str, Sequence[Record]]) -> list[RunSummary]:
    """What each of several runs brings to a page; nothing of one run alone."""
    return [_summary(run, records) for run, records in measured.items()] if len(measured) > 1 else []


def _summary(run: str, records: Sequence[Record]) -> RunSummary:
    devices = Counter(record.env.device for record in records)
    return RunSummary(
        printable(run),
        sum(record.status == "ok" for record in records),
        sum(record.status == "failed" for record in records),
        sum(record.conformant for record in records),
        tuple(dict.fromkeys(record.job.backbone.label for record in records)),
        tuple(name for name, _ in devices.most_common()),
        tuple(sorted({record.env.packages.get("vitbench", "") for record in records})),
        max(record.created for record in records)[:10],
    )


def repeated(measured: Mapping[str, Sequence[Record]]) -> list[Repeated]:
    """The jobs that several runs measured: each run beside the one before it."""
    by_key: dict[str, list[tuple[str, Record]]] = defaultdict(list)
    for run, records in measured.items():
        for record in records:
            by_key[record.key].append((run, record))
    return [
        Repeated(printable(own[k][1].job.title), _score(*own[k]), _score(*own[k + 1]))
        for own in by_key.values()
        for k in range(len(own) - 1)
    ]


def _score(run: str, record: Record) -> RunScore:
    score = value_of(record, record.job.suite.metric) or value_of(record)
    return RunScore(printable(run), score.value if score else None, record.env.device)
