"""`vitbench run` as a function: plan, skip what is done, run the rest, keep every record, write the leaderboard."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitbench import forks
from vitbench.errors import DataMissingError, Problem, UsageError, VitbenchError
from vitbench.files import cache_dir, write_atomically
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
    skip_missing: bool = False


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
    without_data: int = 0
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


def is_follower() -> bool:
    """Whether torchrun has started this process as one of several, and not as the first, which does all the keeping."""
    return os.environ.get("RANK", "0") != "0"


def follow(planned: Planned, launch: Launch) -> None:
    """Work on what the first process gives out."""
    executors: Any = importlib.import_module("vitbench.executors")
    replicas: Any = importlib.import_module("vitbench.replicas")
    checkpoints = planned.run.path.resolve() / "checkpoints"
    replicas.follow(executors.Workers.choose(launch.device, 1, cache_dir(), (), checkpoints))


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
    wanted = len(pending)
    if pending:
        pending = _with_data(pending, skip_missing=launch.skip_missing, others=bool(done))
    if pending:
        plugins = overrides.plugins if overrides else ()
        ended = _run_jobs(planned, dict(done), pending, (launch, progress, plugins))
        with contextlib.closing(ended):
            for record in ended:
                done[record.key] = record
                if launch.fail_fast and record.status == "failed":
                    break
    records = tuple(done[job.key] for job in planned.plan.jobs if job.key in done)
    return Result(run, records, len(pending), planned.plugins, wanted - len(pending))


def _relabelled(planned: Planned) -> dict[str, Record]:
    """Records from before under the labels that the suite gives now: a label is no part of a key."""
    done = dict(planned.done)
    for job in planned.plan.jobs:
        record = done.get(job.key)
        if record is not None and record.job != job:
            done[job.key] = record.model_copy(update={"job": job})
            planned.run.write(done[job.key])
    return done


def _with_data(jobs: Sequence[Job], *, skip_missing: bool, others: bool) -> list[Job]:
    """Open every task once before anything runs; the jobs whose data is there.

    Raises:
        DataMissingError: with all that is missing, unless that is to be skipped and something is left: jobs, or `others`.
        UsageError: a task cannot be opened for another reason.
    """
    missing: dict[str, DataMissingError] = {}
    wrong: list[Problem] = []
    components = {str(job.task.identity()): job.task for job in jobs}
    for identity, component in components.items():
        try:
            TASKS.make(component.spec, component.options)
        except DataMissingError as error:
            missing[identity] = error
        except Exception as error:  # noqa: BLE001  a plugin's own code may raise anything
            what = f"task {component.label!r} cannot be opened: {type(error).__name__}: {error}"
            wrong.append(Problem(what))
    problems = [
        replace(problem, what=f"task {components[identity].label!r}: {problem.what}")
        for identity, error in missing.items()
        for problem in error.problems
    ]
    if wrong:
        raise UsageError([*wrong, *problems])
    left = [job for job in jobs if str(job.task.identity()) not in missing]
    if missing and not (skip_missing and (left or others)):
        raise DataMissingError(_together(problems, [name for e in missing.values() for name in e.data_sets]))
    return left


def _together(problems: list[Problem], data_sets: Sequence[str]) -> list[Problem]:
    """One command for all data sets that are missing, in place of one each."""
    if not data_sets:
        return problems
    command = f"vitbench data prepare {' '.join(dict.fromkeys(data_sets))}"
    last = Problem(
        "what is missing stops the run before it starts; --skip-missing runs the rest", next_step=command
    )
    return [*(replace(p, next_step="") if "data prepare" in p.next_step else p for p in problems), last]


def _run_jobs(
    planned: Planned,
    before: dict[str, Record],
    pending: list[Job],
    how: tuple[Launch, Progress, Sequence[str]],
) -> Generator[Record, None, None]:
    """Run jobs, each under a lock of its own, and keep each record as it comes."""
    launch, progress, plugins = how
    run, plan = planned.run, planned.plan
    if (launch.workers or 1) > 1:
        forks.context()  # its server imports torch while we do
    executors: Any = importlib.import_module("vitbench.executors")  # torch comes in here, and not before
    environment: Any = importlib.import_module("vitbench.compute.environment")
    workers = executors.Workers.choose(
        launch.device, launch.workers, cache_dir(), plugins, run.path.resolve() / "checkpoints"
    )
    _make_writable(run)
    run.write_suite(plan.lock, environment.describe(workers.device).model_dump())
    progress.begin(len(plan.jobs), len(plan.jobs) - len(pending))
    queue = _Claims(run, before, pending)

    def report(phase: str, done: int, total: int) -> None:
        progress.step(queue.current, phase, done, total)

    with contextlib.ExitStack() as stack:
        stack.callback(progress.end)
        stack.callback(queue.release)
        outcomes: Generator[tuple[Job, Outcome], None, None] = executors.execute(queue, workers, report)
        stack.enter_context(contextlib.closing(outcomes))
        for job, outcome in outcomes:
            run.write(outcome.record, outcome.predictions)
            run.forget_checkpoints(job.key)
            queue.claims.pop(job.key).release()
            progress.finished(outcome.record)
            yield outcome.record
        for record in queue.elsewhere:
            progress.finished(record)
            yield record


def _make_writable(run: Run) -> None:
    try:
        run.record_path("x").parent.mkdir(parents=True, exist_ok=True)
        write_atomically(run.path / ".writable", "")
        (run.path / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"the run directory {run.path} cannot be written: {error.strerror}") from error


class _Claims:
    """Pending jobs, each given out under a lock of its own; what another run holds is asked for again, or taken over done."""

    def __init__(self, run: Run, before: dict[str, Record], pending: Sequence[Job]) -> None:
        self.run = run
        self.before = before
        self.waiting = deque(pending)
        self.claims: dict[str, FileLock] = {}
        self.elsewhere: list[Record] = []
        self.current = pending[0]

    def take(self) -> Job | Literal["later"] | None:
        """The next job that nobody works on."""
        for _ in range(len(self.waiting)):
            job = self.waiting.popleft()
            lock = self.run.claim(job.key)
            if lock is None:
                self.waiting.append(job)
                continue
            record = self.run.read(job.key)
            if record is not None and record != self.before.get(job.key):  # finished by another run meanwhile
                lock.release()
                self.elsewhere.append(record)
                continue
            self.claims[job.key] = lock
            self.current = job
            return job
        return "later" if self.waiting else None

    def release(self) -> None:
        """Let go of what was claimed and not finished."""
        for lock in self.claims.values():
            lock.release()
