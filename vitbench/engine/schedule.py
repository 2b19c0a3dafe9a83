"""The order of jobs, and the shard of each of several machines. No score depends on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from vitbench.core.errors import UsageError
from vitbench.core.job import Job
from vitbench.core.registry import PROTOCOLS, TASKS

_BUDGET_RANK = {"full": 2, "1k": 1}


def ordered(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in running order: long ones first, so that none is left for the end; jobs that share features together."""
    return [job for group in _groups(jobs) for job in group]


def shard(jobs: Sequence[Job], part: tuple[int, int]) -> list[Job]:
    """The jobs of shard (i, n), counted from 1, in the order given. Jobs that share features stay together.

    Groups are dealt out, long ones first; a group larger than a shard is split.
    """
    index, count = part
    mine: set[str] = set()
    turn = 0
    for group in _groups(jobs):
        most = max(len(jobs) // count, 1)
        for first in range(0, len(group), most):
            if turn % count == index - 1:
                mine.update(job.key for job in group[first : first + most])
            turn += 1
    return [job for job in jobs if job.key in mine]


def read_shard(text: str) -> tuple[int, int]:
    """The shard (i, n) that `i/n` names.

    Raises:
        UsageError: it is not of that form, or there is no such shard.
    """
    first, slash, second = text.partition("/")
    numbers = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (first, second))
    if not (slash and numbers):
        raise UsageError(f"--shard {text[:40]!r} is not of the form I/N, such as 2/8")
    index, count = int(first), int(second)
    if not 1 <= index <= count:
        raise UsageError(f"--shard {text}: the first number must be between 1 and {count}")
    return index, count


def _groups(jobs: Iterable[Job]) -> list[list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[shared_work(job)].append(job)
    groups = [sorted(group, key=_rank, reverse=True) for group in found.values()]
    return sorted(groups, key=lambda group: _rank(group[0]), reverse=True)


def _rank(job: Job) -> tuple[bool, int]:
    """Whether a job takes longer than others: training before probes, many examples before few."""
    return trains(job), _BUDGET_RANK.get(job.budget, 0)


def trains(job: Job) -> bool:
    """Whether a job's protocol trains the backbone."""
    return bool(getattr(PROTOCOLS.get(job.protocol.spec)[0].build, "trains_backbone", False))


def replicas_of(job: Job) -> int:
    """The number of processes that share each batch of a job, each on its own GPU; 1 unless its protocol asks for more."""
    return int(job.protocol.options.get("replicas") or 1) if trains(job) else 1


def shared_work(job: Job) -> str:
    """A key that is equal for jobs that read the same features; a job that trains its backbone has its own."""
    if trains(job):
        return job.key
    return f"{job.backbone.identity_text} {job.measuring} {_dataset(job)}"


def _dataset(job: Job) -> str:
    """The data set of a task: some tasks differ only in their label rule."""
    return TASKS.get(job.task.spec)[0].labels.get("dataset") or job.task.label
