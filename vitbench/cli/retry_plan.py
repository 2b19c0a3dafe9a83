"""The plan of `vitbench retry`: the jobs last requested of a run directory, or some of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitbench.core.errors import Problem, UsageError
from vitbench.engine.plan import RunPlan, plan_suite
from vitbench.suite import Overrides


def retry_plan(run: Path, overrides: Overrides) -> RunPlan:
    """Return the plan last requested of a run directory, restricted by `overrides` to some of its jobs.

    Raises:
        UsageError: it has no suite.lock.yaml, or `overrides` ask for jobs that the run does not have.
    """
    lock = run / "suite.lock.yaml"
    if not lock.is_file():
        step = "vitbench run SUITE --out DIR --retry-failed"
        raise UsageError(Problem(f"{str(run)!r} has no suite.lock.yaml", next_step=step))
    whole = plan_suite(str(lock), run, Overrides(settings=overrides.settings, plugins=overrides.plugins))
    part = plan_suite(str(lock), run, overrides).suite.jobs
    asked = {job.key for job in whole.suite.jobs}
    strangers = [job for job in part if job.key not in asked]
    if strangers:
        what = f"{len(strangers)} of the selected jobs are not part of {run}, such as {strangers[0].title}"
        raise UsageError(Problem(what, next_step=f"vitbench run SUITE --out {run} adds jobs to it"))
    return replace(whole, part=part)
