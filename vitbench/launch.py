"""`vitbench run` as a function: plan, skip what is done, run the rest, keep every record, write the leaderboard."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitbench.errors import DataMissingError, Problem, VitbenchError
from vitbench.files import cache_dir
from vitbench.plugins import LoadedPlugin, load_all
from vitbench.records import Job, Record
from vitbench.registry import TASKS
from vitbench.store import Run
from vitbench.suite import Overrides, expand, find_suite, read_suite
from vitbench.suite.expand import Plan

if TYPE_CHECKING:
    from filelock import FileLock

    from vitbench.runner import Outcome

__all__ = ["Launch", "Overrides", "Progress", "Result", "plan_suite", "run_suite"]


@dataclass(frozen=True)
class Launch:
    """How to run, as opposed to what: none of it moves a score."""

    device: str = "auto"
    workers: int | None = None
    executor: Literal["local"] = "local"
    force: bool = False
    retry_failed: bool = False
    fail_fast: bool = False


class Progress:
    """What a run tells while it works; this one is silent."""

    def begin(self, total: int, done: int) -> None:
        """There are `total` jobs, `done` of them from before."""

    def step(self, job: Job, phase: str, done: int, total: int) -> None:
        """A job moved on within a phase."""

    def finished(self, record: Record) -> None:
        """A job ended."""

    def end(self) -> None:
        """Nothing more will come."""


@dataclass(frozen=True)
class Planned:
    """A plan, its run directory, and what is there already."""

    plan: Plan
    run: Run
    done: dict[str, Record]
    plugins: tuple[LoadedPlugin, ...]

    def pending(self, launch: Launch) -> list[Job]:
        """The jobs still to run, in order."""
        return [job for job in self.plan.jobs if self._is_pending(job, launch)]

    def _is_pending(self, job: Job, launch: Launch) -> bool:
        record = self.done.get(job.key)
        if record is None or launch.force:
            return True
        return launch.retry_failed and record.status == "failed"


@dataclass(frozen=True)
class Result:
    """All records of a suite's jobs, in their order, and how many of them are new."""

    run: Run
    records: tuple[Record, ...]
    ran: int
    plugins: tuple[LoadedPlugin, ...] = ()
    failed: int = field(init=False)

    def __post_init__(self) -> None:
        failures = sum(record.status == "failed" for record in self.records)
        object.__setattr__(self, "failed", failures)


def plan_suite(suite: str, out: Path | None, overrides: Overrides) -> Planned:
    """Read a suite and look at what its run directory holds.

    Raises:
        UsageError: the suite or the command line has mistakes.
        DataMissingError: something that is named is not on disk.
    """
    plugins = tuple(load_all(overrides.plugins))
    try:
        plan = expand(read_suite(find_suite(suite), overrides.settings), overrides)
    except VitbenchError as error:
        broken = [Problem(plugin.warning) for plugin in plugins if plugin.trouble]
        raise type(error)([*error.problems, *broken]) from error
    run = Run(out or Path("runs") / plan.name)
    return Planned(plan, run, run.done(plan.jobs), plugins)


def run_suite(
    suite: str,
    out: Path | None = None,
    overrides: Overrides | None = None,
    launch: Launch | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run what is not done yet and keep every record as it comes; see `plan_suite` for what is raised."""
    return run_planned(plan_suite(suite, out, overrides or Overrides()), launch, progress, overrides)


def run_planned(
    planned: Planned,
    launch: Launch | None = None,
    progress: Progress | None = None,
    overrides: Overrides | None = None,
) -> Result:
    """Run the pending jobs of a plan."""
    launch, progress = launch or Launch(), progress or Progress()
    run, done = planned.run, _relabelled(planned)
    pending = planned.pending(launch)
    if pending:
        _check_data(pending)
        plugins = overrides.plugins if overrides else ()
        for record in _run_jobs(run, planned.plan, pending, (launch, progress, plugins)):
            done[record.key] = record
            if launch.fail_fast and record.status == "failed":
                break
    records = tuple(done[job.key] for job in planned.plan.jobs if job.key in done)
    return Result(run, records, len(pending), planned.plugins)


def _relabelled(planned: Planned) -> dict[str, Record]:
    """Records from before under the labels that the suite gives now: a label is no part of a key."""
    done = dict(planned.done)
    for job in planned.plan.jobs:
        record = done.get(job.key)
        if record is not None and record.job != job:
            done[job.key] = record.model_copy(update={"job": job})
            planned.run.write(done[job.key])
    return done


def _check_data(jobs: Sequence[Job]) -> None:
    """Open every task once before anything runs.

    Raises:
        DataMissingError: with all that is missing.
    """
    problems: list[Problem] = []
    components = {str(job.task.identity()): job.task for job in jobs}
    for component in components.values():
        try:
            TASKS.make(component.spec, component.options)
        except DataMissingError as error:
            problems += [
                Problem(f"task {component.label!r}: {p.what}", p.where, p.nearest, p.next_step)
                for p in error.problems
            ]
    if problems:
        raise DataMissingError(problems)


def _run_jobs(
    run: Run, plan: Plan, pending: list[Job], how: tuple[Launch, Progress, Sequence[str]]
) -> Iterator[Record]:
    """Run jobs, each under a lock of its own: what another run works on is left to it, and looked at again at the end."""
    launch, progress, plugins = how
    executors: Any = importlib.import_module("vitbench.executors")  # torch comes in here, and not before
    environment: Any = importlib.import_module("vitbench.compute.environment")
    workers = executors.Workers.choose(launch.device, launch.workers, cache_dir(), plugins)
    run.write_suite(plan.lock, environment.describe(workers.device).model_dump())
    progress.begin(len(plan.jobs), len(plan.jobs) - len(pending))
    claims: dict[str, FileLock] = {}
    current: list[Job] = []

    def report(phase: str, done: int, total: int) -> None:
        if current:
            progress.step(current[-1], phase, done, total)

    fresh = _Claims(run, pending, claims, current)
    with contextlib.ExitStack() as stack:
        stack.callback(progress.end)
        stack.callback(_release, claims)
        outcomes: Iterator[tuple[Job, Outcome]] = executors.execute(iter(fresh), workers, report)
        for job, outcome in outcomes:
            run.write(outcome.record, outcome.predictions)
            claims.pop(job.key).release()
            progress.finished(outcome.record)
            yield outcome.record
        for job in fresh.elsewhere:
            record = run.read(job.key)
            if record is not None:
                progress.finished(record)
                yield record


def _release(claims: dict[str, FileLock]) -> None:
    for lock in claims.values():
        lock.release()


@dataclass
class _Claims:
    """Pending jobs that no other run is working on, claimed one by one as they are asked for."""

    run: Run
    pending: list[Job]
    claims: dict[str, FileLock]
    current: list[Job]
    elsewhere: list[Job] = field(default_factory=list)

    def __iter__(self) -> Iterator[Job]:
        began = {job.key: self.run.read(job.key) for job in self.pending}
        later: list[Job] = []
        for job in self.pending:
            if (found := self._claim(job, began[job.key])) is not None:
                yield found
            elif job not in self.elsewhere:
                later.append(job)
        for job in later:  # another run has these: wait for each, and take over what it did not finish
            with contextlib.suppress(OSError):
                self.run.wait(job.key)
            if (found := self._claim(job, began[job.key])) is not None:
                yield found

    def _claim(self, job: Job, began: Record | None) -> Job | None:
        lock = self.run.claim(job.key)
        if lock is None:
            return None
        present = self.run.read(job.key)
        if present is not None and present != began:  # another run finished it meanwhile
            lock.release()
            self.elsewhere.append(job)
            return None
        self.claims[job.key] = lock
        self.current.append(job)
        return job
