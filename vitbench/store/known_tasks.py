"""What is known of the tasks that ship with vitbench, whoever ran them: a record that states otherwise is not one of theirs."""

from __future__ import annotations

from collections.abc import Iterator

from vitbench.core.entry import Entry
from vitbench.core.job import Job
from vitbench.core.record import DataFacts, Record, ScoreKind
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.core.source_files import BUILT_IN

MAIN_METRIC = "top1"  # of every task that ships with vitbench


def known_task(name: str) -> Entry | None:
    """The entry of a task that ships with vitbench, None for any other. The registry must be filled before."""
    found = {entry.name: entry for entry in TASKS.entries() if entry.origin == BUILT_IN}
    return found.get(name)


def known_size(job: Job) -> int | None:
    """The number of test examples that a job must have been scored on, None where that depends on the user's data."""
    entry = known_task(job.task.name)
    if entry is None or entry.n_test is None:
        return None
    return min(entry.n_test, job.limit or entry.n_test)


def known_score_kind(job: Job) -> ScoreKind | None:
    """What the class scores of a protocol that ships with vitbench are, None for any other."""
    found = {entry.name: entry.build for entry in PROTOCOLS.entries() if entry.origin == BUILT_IN}
    kind: ScoreKind | None = getattr(found.get(job.protocol.name), "score_kind", None)
    return kind


def contradictions(record: Record) -> Iterator[str]:
    """A text for everything that a record states and its task cannot have: another size, group, data set, metric or name."""
    entry, data = known_task(record.job.task.name), record.data
    if record.job.task.label != record.job.task.name and known_task(record.job.task.label) is not None:
        yield f"its task {record.job.task.spec!r} goes by the name of another task, {record.job.task.label!r}"
    if entry is None or data is None:
        return
    if next(iter(record.metrics), "") != MAIN_METRIC:
        yield f"its first metric is not {MAIN_METRIC}, which is the one of {entry.name}"
    for name, stated in (("group", data.group), ("dataset", data.dataset)):
        if stated != (wanted := entry.labels.get(name, "")):
            yield f"its {name} is {stated!r}, that of {entry.name} is {wanted!r}"
    if ("clusters" in entry.labels) != all(
        metric.clusters for name, metric in record.metrics.items() if name not in record.test_sets
    ):
        yield f"its interval is not over {entry.labels.get('clusters', 'images')}, as those of {entry.name} are"
    yield from _other_size(record.job, entry, data)


def _other_size(job: Job, entry: Entry, data: DataFacts) -> Iterator[str]:
    """A text if the size is not the known one. Data that say how they depart may have another: they are not conformant."""
    may_depart = entry.data is not None and bool(data.departures)
    wanted = known_size(job)
    if wanted is not None and data.n_test != wanted and not may_depart:
        limited = f" with a limit of {job.limit}" if wanted != entry.n_test else ""
        yield f"it has {data.n_test:,} test examples, {entry.name}{limited} has {wanted:,}"
