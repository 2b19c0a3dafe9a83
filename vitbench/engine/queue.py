"""Pending jobs, given out one by one: each under a lock of its own, and no features computed twice at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.engine.schedule import ordered, shared_work
from vitbench.store.run_dir import RunDir

if TYPE_CHECKING:
    from filelock import FileLock


@dataclass
class _Group:
    """Jobs that share features: where these lie already, and where they are being computed."""

    waiting: deque[Job] = field(default_factory=deque)
    ready_at: set[str] = field(default_factory=set)
    begun_at: set[str] = field(default_factory=set)

    def suits(self, place: str) -> bool:
        """Whether a worker there would neither wait for features nor compute what lies elsewhere."""
        return place in self.ready_at or not (self.ready_at or self.begun_at)


class JobQueue:
    """What another run holds is asked for again, or taken over done. A place is a machine with a feature store of its own."""

    def __init__(self, run: RunDir, before: dict[str, Record], pending: Sequence[Job]) -> None:
        self.run = run
        self.before = before
        self.elsewhere: list[Record] = []
        self._claims: dict[str, tuple[FileLock, str, str]] = {}
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        for job in ordered(pending):
            self._groups.setdefault(shared_work(job), _Group()).waiting.append(job)

    def take(
        self, place: str = "", fits: Callable[[Job], bool] | None = None
    ) -> Job | Literal["later"] | None:
        """The next job that nobody works on, of those that fit; see `executors.Queue`."""
        held = False
        for suiting in (True, False):
            for name in list(self._groups):
                if self._groups[name].suits(place) is not suiting:
                    continue
                job, some_held = self._from(name, fits)
                held |= some_held
                if job is not None:
                    self._groups[name].begun_at.add(place)
                    self._claims[job.key] = (self._claims[job.key][0], name, place)
                    return job
                if not self._groups[name].waiting:
                    del self._groups[name]
        return "later" if held else None

    def _from(self, name: str, fits: Callable[[Job], bool] | None) -> tuple[Job | None, bool]:
        """A free job of a group, and whether some are held by other runs."""
        waiting = self._groups[name].waiting
        held = False
        for _ in range(len(waiting)):
            job = waiting.popleft()
            if fits is not None and not fits(job):
                waiting.append(job)
                continue
            lock = self.run.claim(job.key)
            if lock is None:
                held = True
                waiting.append(job)
                continue
            record = self.run.read(job.key)
            is_there = record is not None and self.run.is_whole(record)
            if record is not None and is_there and record != self.before.get(job.key):
                # Another run has finished it meanwhile.
                lock.release()
                self.elsewhere.append(record)
                continue
            self._claims[job.key] = (lock, name, "")
            return job, held
        return None, held

    def finished(self, job: Job) -> None:
        """Let go of a job whose record is written; the features it read are there for others now."""
        lock, name, place = self._claims.pop(job.key)
        lock.release()
        if name in self._groups:
            self._groups[name].ready_at.add(place)

    def release(self) -> None:
        """Let go of what was claimed and not finished."""
        for lock, _, _ in self._claims.values():
            lock.release()
