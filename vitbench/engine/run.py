"""`vitbench run` as a function: plan, skip finished jobs, run the rest, and write each record as it comes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import Job, backbone_key
from vitbench.core.plugins import LoadedPlugin
from vitbench.core.record import Record
from vitbench.core.settings import cache_dir, check_numbers
from vitbench.engine.executors import fork_server
from vitbench.engine.plan import (
    RunOptions,
    RunPlan,
    for_their_scores,
    measured_again,
    plan_suite,
    with_data,
)
from vitbench.engine.precision_remark import float32_remark
from vitbench.engine.queue import JobQueue
from vitbench.engine.relabel import relabelled
from vitbench.store.plan_file import write_plan
from vitbench.store.run_dir import RunDir
from vitbench.suite import Overrides

if TYPE_CHECKING:
    from vitbench.engine.executors.workers import Workers
    from vitbench.engine.outcome import Outcome

__all__ = [
    "Overrides",
    "Progress",
    "Result",
    "RunOptions",
    "options_from",
    "plan_suite",
    "run_planned",
    "run_suite",
]


class Progress:
    """Receives the events of a run; this one ignores them."""

    def begin(self, run: RunDir, jobs: Sequence[Job], done: Sequence[Record], workers: int) -> None:
        """The run starts: all its jobs, and the records of those that are finished already."""

    def remark(self, text: str) -> None:
        """Something is to be known of the suite or its data before anything is trained."""

    def finished(self, record: Record) -> None:
        """A job has ended."""

    def end(self) -> None:
        """The run is over."""


@dataclass(frozen=True)
class Result:
    """The records of a suite's jobs, in the order of the jobs, and how many jobs were run now."""

    run: RunDir
    records: tuple[Record, ...]
    ran: int
    plugins: tuple[LoadedPlugin, ...] = ()
    without_data: int = 0
    asked: int = 0

    @property
    def failed(self) -> int:
        """The number of jobs without a score."""
        return sum(record.status == "failed" for record in self.records)


def run_suite(
    suite: str,
    out: Path | None = None,
    overrides: Overrides | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run the jobs of a suite that are not finished, and write each record as it comes; raises what `plan_suite` raises."""
    return run_planned(plan_suite(suite, out, overrides or Overrides()), options, progress)


def options_from(given: Mapping[str, Any]) -> tuple[Overrides, RunOptions]:
    """Options by name, as what to run and how to run it.

    Raises:
        UsageError: there is no such option.
    """
    what, how = ({field.name for field in fields(kind)} for kind in (Overrides, RunOptions))
    unknown = [name for name in given if name not in what | how]
    if unknown:
        problems = [Problem(f"run() has no option {n!r}", nearest=nearest(n, what | how)) for n in unknown]
        raise UsageError(problems)
    return (
        Overrides(**{name: value for name, value in given.items() if name in what}),
        RunOptions(**{name: value for name, value in given.items() if name in how}),
    )


def is_follower() -> bool:
    """Whether torchrun has started this process with a rank above 0. Rank 0 hands out the jobs and writes the records."""
    return os.environ.get("RANK", "0") != "0"


def follow(plan: RunPlan, options: RunOptions) -> None:
    """Run the jobs that rank 0 hands out."""
    from vitbench.engine.executors import torchrun

    torchrun.follow(_workers(plan, options).worker())


def run_planned(plan: RunPlan, options: RunOptions | None = None, progress: Progress | None = None) -> Result:
    """Run the pending jobs of a plan.

    Raises:
        UsageError: the run directory cannot be written, or a task cannot be opened.
        DataMissingError: a task's data are missing.
        StorageError: the disk is full.
    """
    options, progress = options or RunOptions(), progress or Progress()
    with gc_paused():
        done, jobs = relabelled(plan), plan.jobs(options)
    pending = plan.pending(options)
    wanted = len(pending)
    if pending:
        check_numbers()
        said = (measured_again(plan, pending), for_their_scores(plan, pending, options))
        for text in (*filter(None, said), *plan.suite.remarks):
            progress.remark(text)
        pending = with_data(
            pending, skip_missing=options.skip_missing, others=bool(done), say=progress.remark
        )
    if pending:
        ended = _Run(plan, options, progress, dict(done), pending).records()
        with contextlib.closing(ended):
            for record in ended:
                done[record.key] = record
                if options.fail_fast and record.status == "failed":
                    break
    records = tuple(done[job.key] for job in jobs if job.key in done)
    return Result(plan.run, records, len(pending), plan.plugins, wanted - len(pending), len(jobs))


@dataclass(frozen=True)
class _Run:
    """The pending jobs of a plan, and the records that were there before."""

    plan: RunPlan
    options: RunOptions
    progress: Progress
    before: dict[str, Record]
    pending: list[Job]

    def records(self) -> Generator[Record, None, None]:
        """Run the jobs, each under a lock of its own, and write each record as it comes."""
        if self.options.executor == "local" and (self.options.workers or 1) > 1:
            fork_server.context()  # its server imports torch while we do
        workers = _workers(self.plan, self.options)
        self._begin(workers)
        run = self.plan.run
        queue = JobQueue(run, self.before, self.pending)
        with contextlib.ExitStack() as stack:
            stack.callback(self.progress.end)
            stack.callback(queue.release)
            for job, outcome in self._outcomes(queue, workers):
                record = run.write(outcome.record, outcome.predictions, outcome.scores, outcome.further)
                if record.status == "ok":  # a failed job goes on from its checkpoints when it is retried
                    run.forget_checkpoints(job.key)
                queue.finished(job)
                self.progress.finished(record)
                yield record
            for record in queue.elsewhere:
                self.progress.finished(record)
                yield record

    def _outcomes(self, queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
        """Every job with its outcome; jobs of a backbone that cannot be built share the outcome of the first."""
        from vitbench.engine.executors.dispatch import execute
        from vitbench.engine.first_builds import cannot_be_built, same_failure, unbuildable

        def others_of(job: Job, outcome: Outcome) -> Iterator[tuple[Job, Outcome]]:
            key = backbone_key(job)
            for other in queue.withdraw(lambda waiting: backbone_key(waiting) == key):
                yield other, same_failure(other, outcome)

        if workers.executor != "ray":  # a cluster's driver may have neither the weights nor the memory
            for job, outcome in unbuildable(self.pending, workers.device):
                yield from others_of(job, outcome)
        with contextlib.closing(execute(queue, workers)) as outcomes:
            for job, outcome in outcomes:
                yield job, outcome
                if cannot_be_built(outcome):
                    yield from others_of(job, outcome)

    def _begin(self, workers: Workers) -> None:
        """Make the run directory, write what was asked for, and start the progress."""
        from vitbench.compute.environment import describe

        run, expanded = self.plan.run, self.plan.suite
        run.make_writable()
        here = (
            "cpu" if self.options.executor == "ray" else workers.device
        )  # a cluster's driver may have no GPU
        write_plan(run.path, expanded.lock, expanded.jobs, describe(here).model_dump())
        missing = {job.key for job in self.pending}
        jobs = self.plan.jobs(self.options)
        old = [self.before[job.key] for job in jobs if job.key in self.before and job.key not in missing]
        if costly := float32_remark(self.pending, workers.device):
            self.progress.remark(costly)
        self.progress.begin(run, jobs, old, workers.count or 1)


def _workers(plan: RunPlan, options: RunOptions) -> Workers:
    with _later_interrupts(), gc_paused():
        from vitbench.engine.executors.workers import Workers  # imports torch
    if options.address and options.executor != "ray":
        raise UsageError(f"--address {options.address} needs --executor ray")
    workers = Workers.choose(
        options.device,
        options.workers,
        cache_dir(),
        plugins=plan.asked.plugins,
        run=plan.run.path.resolve(),
        executor=options.executor,
        address=options.address,
    )
    return replace(workers, keep_scores=options.keep_scores)


@contextlib.contextmanager
def _later_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM wait: torch dumps core if they arrive while it is imported."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
