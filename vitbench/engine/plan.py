"""The plan of a run: the jobs of a suite, those that are finished, and those whose data are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitbench.core.errors import DataMissingError, Problem, UsageError, VitbenchError
from vitbench.core.job import Component, Job, JobLabels
from vitbench.core.plugins import LoadedPlugin
from vitbench.core.record import Record
from vitbench.core.registry import TASKS
from vitbench.engine.components import load_all
from vitbench.engine.schedule import shard
from vitbench.store.plan_file import read_plan
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.suite import Overrides, find_suite, read_suite
from vitbench.suite.expand import ExpandedSuite, expand_chosen
from vitbench.suite.yaml_lines import Located


@dataclass(frozen=True)
class RunOptions:
    """How to run, as opposed to what: no score depends on it. `shard` (i, n) is the i-th of n shards of the jobs, from 1.

    With `keep_scores`, class scores are kept beside the predictions, and finished jobs without them run again. `on` and
    `measure` are of estimates: the card to predict for, and whether speed is measured.
    """

    device: str = "auto"
    workers: int | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    shard: tuple[int, int] | None = None
    force: bool = False
    retry_failed: bool = False
    fail_fast: bool = False
    skip_missing: bool = False
    keep_scores: bool = False
    on: str | None = None
    measure: bool = False


@dataclass(frozen=True)
class RunPlan:
    """An expanded suite, its run directory, the records that are there already, and what the command line asked for.

    With `part`, only these of the suite's jobs are run.
    """

    suite: ExpandedSuite
    run: RunDir
    done: dict[str, Record]
    plugins: tuple[LoadedPlugin, ...]
    asked: Overrides
    part: tuple[Job, ...] | None = None

    def pending(self, options: RunOptions) -> list[Job]:
        """The jobs still to run, in order."""
        return [job for job in self.jobs(options) if self._is_pending(job, options)]

    def jobs(self, options: RunOptions) -> Sequence[Job]:
        """The jobs to run, or those of this shard."""
        jobs = self.suite.jobs if self.part is None else self.part
        return shard(jobs, options.shard) if options.shard else jobs

    def _is_pending(self, job: Job, options: RunOptions) -> bool:
        record = self.done.get(job.key)
        if record is None or options.force:
            return True
        weights_missing = record.failure is not None and record.failure.kind == "DataMissingError"
        if options.keep_scores and record.status == "ok" and not self.run.has_scores(record):
            return True
        return weights_missing or (options.retry_failed and record.status == "failed")


def plan_suite(suite: str, out: Path | None, overrides: Overrides) -> RunPlan:
    """Read a suite and what its run directory holds.

    Raises:
        UsageError: the suite or the command line has mistakes.
        DataMissingError: a file or folder that is named does not exist.
    """
    return _planned(lambda: read_suite(find_suite(suite)), out, overrides)


def plan_located(suite: Located, out: Path, overrides: Overrides) -> RunPlan:
    """The same for a suite that is in memory."""
    return _planned(lambda: suite, out, overrides)


def _planned(read: Callable[[], Located], out: Path | None, overrides: Overrides) -> RunPlan:
    plugins = tuple(load_all(overrides.plugins))
    try:
        expanded = expand_chosen(read(), overrides)
    except VitbenchError as error:
        broken = [Problem(plugin.warning) for plugin in plugins if plugin.trouble]
        raise type(error)([*error.problems, *broken]) from error
    run = RunDir(out or Path("runs") / expanded.name)
    expanded = _as_recorded(expanded, run)
    return RunPlan(expanded, run, run.done(expanded.jobs), plugins, overrides)


def _as_recorded(suite: ExpandedSuite, run: RunDir) -> ExpandedSuite:
    """The suite, with the data that its records name for tasks whose data are not on this machine.

    What such a task would read cannot be known here, so that its results are neither thrown away nor measured again.
    """
    tasks = {id(job.task): job.task for job in suite.jobs}.values()  # thousands of jobs share a few
    absent = {_without_data(task) for task in tasks if _lacks_data(task)}
    if not absent or not any(run.record_files()):
        return suite
    records = sorted(load(run.path, lambda _unreadable: None), key=lambda record: record.created)
    known = {_without_data(record.job.task): record.job.task.contents for record in records}

    def as_recorded(job: Job) -> Job:
        identity = _without_data(job.task)
        if identity not in absent or identity not in known:
            return job
        return job.model_copy(update={"task": job.task.model_copy(update={"contents": known[identity]})})

    return replace(suite, jobs=tuple(map(as_recorded, suite.jobs)))


def _lacks_data(task: Component) -> bool:
    entry = TASKS.get(task.spec)[0]
    return entry.data is not None and "data" not in task.contents and not task.options.get("path")


def _without_data(task: Component) -> str:
    contents = {name: digest for name, digest in task.contents.items() if name != "data"}
    return f"{task.model_copy(update={'contents': contents}).identity()}"


def measured_again(plan: RunPlan, pending: Sequence[Job]) -> str:
    """How many pending jobs have a result of the last plan under another key; '' if none has."""
    cells = {job.labels for job in pending}
    keys = {job.key for job in plan.suite.jobs}
    before: list[list[str]] = []
    with contextlib.suppress(UsageError):  # it is damaged, and about to be written anew
        before = read_plan(plan.run.path) or []
    old = [row[0] for row in before if row[0] not in keys and JobLabels(*row[1:]) in cells]
    n = sum(plan.run.record_path(key).is_file() for key in old)
    what = "code, weights, data, options or versions have changed since"
    return f"{n:,} results that are there are measured again: {what}" if n else ""


def for_their_scores(plan: RunPlan, pending: Sequence[Job], options: RunOptions) -> str:
    """How many pending jobs are finished but for their class scores; '' if none is."""
    if not options.keep_scores or options.force:
        return ""
    n = sum(job.key in plan.done and plan.done[job.key].status == "ok" for job in pending)
    return f"{n:,} finished jobs run again: their class scores were not kept" if n else ""


def with_data(
    jobs: Sequence[Job], *, skip_missing: bool, others: bool, say: Callable[[str], None] = lambda _text: None
) -> list[Job]:
    """The jobs whose data are there. Every task is opened once, before anything runs, and its remarks are said.

    Raises:
        DataMissingError: with all that is missing, unless it is to be skipped and something is left: jobs, or `others`.
        UsageError: a task cannot be opened for another reason.
    """
    missing: dict[str, list[Problem]] = {}
    data_sets: list[str] = []
    broken: list[Problem] = []
    for identity, component in {job.task.identity_text: job.task for job in jobs}.items():
        try:
            _, task = TASKS.make(component.spec, component.options)
            for remark in (*task.remarks(), *task.departures()):
                say(f"task {component.label!r}: {remark}")
        except DataMissingError as error:
            where = f"task {component.label!r}: "
            missing[identity] = [replace(problem, what=where + problem.what) for problem in error.problems]
            data_sets += error.data_sets
        except Exception as error:  # noqa: BLE001  a plugin's code may raise anything
            what = f"task {component.label!r} cannot be opened: {type(error).__name__}: {error}"
            broken.append(Problem(what))
    problems = [problem for found in missing.values() for problem in found]
    if broken:
        raise UsageError([*broken, *problems])
    left = [job for job in jobs if job.task.identity_text not in missing]
    if missing and not (skip_missing and (left or others)):
        raise DataMissingError(_with_one_command(problems, data_sets))
    return left


def _with_one_command(problems: list[Problem], data_sets: Sequence[str]) -> list[Problem]:
    """The problems with one command that prepares all data sets, instead of one command each."""
    if not data_sets:
        return problems
    command = f"vitbench data prepare {' '.join(dict.fromkeys(data_sets))}"
    what = "nothing was run: prepare the data sets above, or add --skip-missing to run the other jobs"
    rest = [replace(p, next_step="") if "data prepare" in p.next_step else p for p in problems]
    return [*rest, Problem(what, next_step=command)]
