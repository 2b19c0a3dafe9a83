"""The queue of pending jobs: jobs are claimed under per-job locks, and no two workers extract the same features."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.engine.schedule import ordered, replicas_of, shared_work
from vitbench.store.run_dir import RunDir

if TYPE_CHECKING:
    from filelock import FileLock

Fits = Callable[[Job], bool]
# The next job for a worker on a node, of those that fit; `later` while other runs hold all that are left. Never waits.
Take = Callable[[str, Fits | None], Job | Literal["later"] | None]


@dataclass
class _Group:
    """Jobs that share features, the nodes where these are cached, and the nodes where they are being computed."""

    waiting: deque[Job] = field(default_factory=deque)
    cached_on: set[str] = field(default_factory=set)
    begun_on: set[str] = field(default_factory=set)

    def suits(self, node: str) -> bool:
        """Whether a worker there would neither wait for features nor compute what another node has."""
        return node in self.cached_on or not (self.cached_on or self.begun_on)


class JobQueue:
    """Jobs that ask for several processes (`several`) and all others (`single`), each a list to take from.

    A job that another run holds is tried again later; once that run has finished it, its record joins `elsewhere`. A node is a
    machine with a feature cache of its own.
    """

    def __init__(self, run: RunDir, before: dict[str, Record], pending: Sequence[Job]) -> None:
        self.run = run
        self.before = before
        self.elsewhere: list[Record] = []
        self._locks: dict[str, FileLock] = {}
        several = {job.key for job in pending if replicas_of(job) > 1}
        self.several = JobList(self, [job for job in pending if job.key in several])
        self.single = JobList(self, [job for job in pending if job.key not in several])

    def take(self) -> Job | Literal["later"] | None:
        """The next job of either list."""
        first = self.several.take()
        if isinstance(first, Job):
            return first
        second = self.single.take()
        return second if second is not None else first

    def finished(self, job: Job) -> None:
        """Release a job whose record is written."""
        self._locks.pop(job.key).release()
        for part in (self.several, self.single):
            part.finished(job)

    def withdraw(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take out the waiting jobs that are unwanted and that no other run holds."""
        return [job for part in (self.several, self.single) for job in part.withdraw(unwanted)]

    def release(self) -> None:
        """Release the jobs that were taken and not finished."""
        for lock in self._locks.values():
            lock.release()

    def claim(self, job: Job) -> bool | None:
        """Lock a job: True if it is ours, False if another run holds it, None if another run has finished it meanwhile."""
        lock = self.run.claim(job.key)
        if lock is None:
            return False
        record = self.run.read(job.key)
        if record is not None and self.run.is_whole(record) and record != self.before.get(job.key):
            lock.release()
            self.elsewhere.append(record)
            return None
        self._locks[job.key] = lock
        return True


class JobList:
    """Jobs of a queue in groups that share features, long ones first."""

    def __init__(self, queue: JobQueue, jobs: Iterable[Job]) -> None:
        self._queue = queue
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._taken: dict[str, tuple[str, str]] = {}  # of each job taken: its group, and the node it is on
        for job in ordered(jobs):
            self._groups.setdefault(shared_work(job), _Group()).waiting.append(job)

    def take(self, node: str = "", fits: Fits | None = None) -> Job | Literal["later"] | None:
        """The next job for a worker on a node; see `Take`."""
        held = False
        for name in self._by_suitability(node):
            job, some_held = self._from(self._groups[name].waiting, fits)
            held |= some_held
            if job is not None:
                self._groups[name].begun_on.add(node)
                self._taken[job.key] = (name, node)
                return job
            if not self._groups[name].waiting:
                del self._groups[name]
        return "later" if held else None

    def finished(self, job: Job) -> None:
        """Note where the features that a job has read are cached now."""
        name, node = self._taken.pop(job.key, ("", ""))
        if name in self._groups:
            self._groups[name].cached_on.add(node)

    def withdraw(self, unwanted: Callable[[Job], bool]) -> Iterator[Job]:
        """Take out the waiting jobs that are unwanted and that no other run holds."""
        for group in self._groups.values():
            for job in [job for job in group.waiting if unwanted(job) and self._queue.claim(job)]:
                group.waiting.remove(job)
                yield job

    def _by_suitability(self, node: str) -> Iterator[str]:
        for suiting in (True, False):
            for name in list(self._groups):
                if name in self._groups and self._groups[name].suits(node) is suiting:
                    yield name

    def _from(self, waiting: deque[Job], fits: Fits | None) -> tuple[Job | None, bool]:
        """A free job of a group, and whether some are held by other runs."""
        held = False
        for _ in range(len(waiting)):
            job = waiting.popleft()
            if fits is not None and not fits(job):
                waiting.append(job)
                continue
            claimed = self._queue.claim(job)
            if claimed:
                return job, held
            if claimed is False:
                held = True
                waiting.append(job)
        return None, held
