"""`vitbench run` as a function: plan, skip what is done, run the rest, keep every record as it comes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.core.errors import UsageError
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import Job
from vitbench.core.plugins import LoadedPlugin
from vitbench.core.record import Record
from vitbench.core.settings import cache_dir, number_from
from vitbench.engine.executors import fork_server
from vitbench.engine.plan import RunOptions, RunPlan, plan_suite, relabelled, with_data
from vitbench.engine.queue import JobQueue
from vitbench.store.plan_file import write_plan
from vitbench.store.run_dir import RunDir
from vitbench.suite import Overrides

if TYPE_CHECKING:
    from vitbench.engine.executors.workers import Workers

# Environment variables that take a number: a wrong one is told before anything runs.
NUMBERS = ("VITBENCH_FEATURES_GB", "VITBENCH_DECODED_GB", "VITBENCH_CHECKPOINT_S")

__all__ = ["Overrides", "Progress", "Result", "RunOptions", "plan_suite", "run_planned", "run_suite"]


class Progress:
    """What a run tells while it works; this one is silent."""

    def begin(self, run: RunDir, jobs: Sequence[Job], done: Sequence[Record], workers: int) -> None:
        """These jobs are asked for, and these records are there from before."""

    def finished(self, record: Record) -> None:
        """A job ended."""

    def end(self) -> None:
        """Nothing more will come."""


@dataclass(frozen=True)
class Result:
    """All records of a suite's jobs, in their order, and how many of them are new."""

    run: RunDir
    records: tuple[Record, ...]
    ran: int
    plugins: tuple[LoadedPlugin, ...] = ()
    without_data: int = 0
    asked: int = 0
    failed: int = field(init=False)

    def __post_init__(self) -> None:
        failures = sum(record.status == "failed" for record in self.records)
        object.__setattr__(self, "failed", failures)


def run_suite(
    suite: str,
    out: Path | None = None,
    overrides: Overrides | None = None,
    launch: RunOptions | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run what is not done yet and keep every record as it comes; see `plan_suite` for what is raised."""
    return run_planned(plan_suite(suite, out, overrides or Overrides()), launch, progress, overrides)


def is_follower() -> bool:
    """Whether torchrun has started this process as one of several, and not as the first, which does all the keeping."""
    return os.environ.get("RANK", "0") != "0"


def follow(planned: RunPlan, launch: RunOptions) -> None:
    """Work on what the first process gives out."""
    from vitbench.engine.executors import torchrun

    torchrun.follow(_workers(planned.run, launch, ()).worker())


def run_planned(
    planned: RunPlan,
    launch: RunOptions | None = None,
    progress: Progress | None = None,
    overrides: Overrides | None = None,
) -> Result:
    """Run the pending jobs of a plan.

    Raises:
        UsageError: the run directory cannot be written, or a task cannot be opened.
        DataMissingError: a task's data is not there.
        StorageError: the disk is full.
    """
    launch, progress = launch or RunOptions(), progress or Progress()
    with gc_paused():
        run, done, jobs = planned.run, relabelled(planned), planned.jobs(launch)
    pending = planned.pending(launch)
    if pending:
        for variable in NUMBERS:
            number_from(variable, 0)
    wanted = len(pending)
    if pending:
        pending = with_data(pending, skip_missing=launch.skip_missing, others=bool(done))
    if pending:
        plugins = overrides.plugins if overrides else ()
        ended = _run_jobs(planned, dict(done), pending, (launch, progress, plugins))
        with contextlib.closing(ended):
            for record in ended:
                done[record.key] = record
                if launch.fail_fast and record.status == "failed":
                    break
    records = tuple(done[job.key] for job in jobs if job.key in done)
    return Result(run, records, len(pending), planned.plugins, wanted - len(pending), len(jobs))


@contextlib.contextmanager
def _later_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM wait: torch ends the process with a core dump if they come while it is imported."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _workers(run: RunDir, launch: RunOptions, plugins: Sequence[str]) -> Workers:
    with _later_interrupts():
        from vitbench.engine.executors.workers import Workers  # imports torch
    if launch.address and launch.executor != "ray":
        raise UsageError(f"--address {launch.address} is a Ray cluster's: add --executor ray")
    return Workers.choose(
        launch.device,
        launch.workers,
        cache_dir(),
        plugins=plugins,
        run=run.path.resolve(),
        executor=launch.executor,
        address=launch.address,
    )


def _run_jobs(
    planned: RunPlan,
    before: dict[str, Record],
    pending: list[Job],
    how: tuple[RunOptions, Progress, Sequence[str]],
) -> Generator[Record, None, None]:
    """Run jobs, each under a lock of its own, and keep each record as it comes."""
    launch, progress, plugins = how
    run = planned.run
    if launch.executor == "local" and (launch.workers or 1) > 1:
        fork_server.context()  # its server imports torch while we do
    workers = _workers(run, launch, plugins)
    from vitbench.compute.environment import describe
    from vitbench.engine.executors.dispatch import execute

    run.make_writable()
    here = "cpu" if launch.executor == "ray" else workers.device  # the driver of a cluster may have no GPU
    write_plan(run.path, planned.plan.lock, planned.plan.jobs, describe(here).model_dump())
    missing = {job.key for job in pending}
    jobs = planned.jobs(launch)
    old = [before[job.key] for job in jobs if job.key in before and job.key not in missing]
    progress.begin(run, jobs, old, workers.count or 1)
    queue = JobQueue(run, before, pending)
    with contextlib.ExitStack() as stack:
        stack.callback(progress.end)
        stack.callback(queue.release)
        outcomes = execute(queue, workers)
        stack.enter_context(contextlib.closing(outcomes))
        for job, outcome in outcomes:
            record = run.write(outcome.record, outcome.predictions)
            if record.status == "ok":  # a failed job goes on from its state when it is retried
                run.forget_checkpoints(job.key)
            queue.finished(job)
            progress.finished(record)
            yield record
        for record in queue.elsewhere:
            progress.finished(record)
            yield record
