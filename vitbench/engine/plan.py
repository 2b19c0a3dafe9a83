"""What a suite and its run directory come to: the jobs, those that are done, and those whose data is there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitbench.core.errors import DataMissingError, Problem, UsageError, VitbenchError
from vitbench.core.job import Job
from vitbench.core.plugins import LoadedPlugin, load_all
from vitbench.core.record import Record
from vitbench.core.registry import TASKS
from vitbench.engine.schedule import share
from vitbench.store.run_dir import RunDir
from vitbench.suite import Overrides, expand, find_suite, read_suite
from vitbench.suite.expand import ExpandedSuite


@dataclass(frozen=True)
class RunOptions:
    """How to run, as opposed to what: none of it moves a score. `shard` (i, n) is the i-th of n shares of the jobs, from 1."""

    device: str = "auto"
    workers: int | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    shard: tuple[int, int] | None = None
    force: bool = False
    retry_failed: bool = False
    fail_fast: bool = False
    skip_missing: bool = False


@dataclass(frozen=True)
class RunPlan:
    """A plan, its run directory, and what is there already."""

    plan: ExpandedSuite
    run: RunDir
    done: dict[str, Record]
    plugins: tuple[LoadedPlugin, ...]

    def pending(self, launch: RunOptions) -> list[Job]:
        """The jobs still to run, in order."""
        return [job for job in self.jobs(launch) if self._is_pending(job, launch)]

    def jobs(self, launch: RunOptions) -> Sequence[Job]:
        """The jobs of the plan, or of this machine's share of it."""
        return share(self.plan.jobs, launch.shard) if launch.shard else self.plan.jobs

    def _is_pending(self, job: Job, launch: RunOptions) -> bool:
        record = self.done.get(job.key)
        if record is None or launch.force:
            return True
        return launch.retry_failed and record.status == "failed"


def plan_suite(suite: str, out: Path | None, overrides: Overrides) -> RunPlan:
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
    run = RunDir(out or Path("runs") / plan.name)
    return RunPlan(plan, run, run.done(plan.jobs), plugins)


def relabelled(planned: RunPlan) -> dict[str, Record]:
    """Records from before under the labels that the suite gives now: a label is no part of a key."""
    done = dict(planned.done)
    for job in planned.plan.jobs:
        record = done.get(job.key)
        if record is not None and record.job != job:
            done[job.key] = record.model_copy(update={"job": job})
            _relabel(planned.run, job)
    return done


def _relabel(run: RunDir, job: Job) -> None:
    """Write what lies there now, which may be newer than what was planned by; not what another run is at."""
    lock = None
    with contextlib.suppress(OSError):  # somebody else's directory, read-only to us
        lock = run.claim(job.key)
    if lock is None:
        return
    try:
        record = run.read(job.key)
        if record is not None:
            run.write(record.model_copy(update={"job": job}))
    finally:
        lock.release()


def with_data(jobs: Sequence[Job], *, skip_missing: bool, others: bool) -> list[Job]:
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
