"""`vitbench run --dry-run`: the jobs, and an estimate of their cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from vitbench.core.format import duration, file_size, printable, quantity

if TYPE_CHECKING:
    from vitbench.core.job import Job
    from vitbench.engine.estimate import Estimate
    from vitbench.engine.plan import RunOptions, RunPlan


def print_plan(plan: RunPlan, run_options: RunOptions, *, as_json: bool, verbose: bool = False) -> int:
    """Print how many jobs there are of each kind, or with `verbose` each, and estimate the pending ones.

    The estimate is saved for the report.
    """
    if as_json:
        import json

        click.echo(json.dumps(plan_as_json(plan, run_options), indent=1, ensure_ascii=False))
        return 0
    jobs, pending = plan.jobs(run_options), plan.pending(run_options)
    keys = {job.key for job in pending}
    for line in _each(plan, jobs, keys) if verbose else _by_kind(plan, jobs, keys):
        click.echo(printable(line))
    done = len(jobs) - len(keys)
    click.echo(f"{len(jobs)} jobs, {done} done, {len(keys)} to run in {plan.run.path}", err=True)
    if pending:
        _print(_estimated(plan, run_options, pending), plan, workers=run_options.workers or 1)
    return 0


def _state(plan: RunPlan, job: Job, keys: set[str]) -> str:
    record = plan.done.get(job.key)
    was = "failed" if record is not None and record.status == "failed" else "done"
    return "to run" if job.key in keys else was


def _each(plan: RunPlan, jobs: Sequence[Job], keys: set[str]) -> Iterator[str]:
    """A line for each job: its state, the beginning of its key, and what it is."""
    for job in jobs:
        yield f"{_state(plan, job, keys):7} {job.key[:8]}  {job.title}"


def _by_kind(plan: RunPlan, jobs: Sequence[Job], keys: set[str]) -> Iterator[str]:
    """A line for the jobs of each state, backbone, protocol and budget."""
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        kind = (_state(plan, job, keys), job.backbone.label, job.protocol.label, job.budget)
        found.setdefault(kind, []).append(job)
    for (state, backbone, protocol, budget), own in found.items():
        tasks, seeds = {job.task.label for job in own}, {job.seed for job in own}
        over = [f"{len(tasks)} tasks" if len(tasks) > 1 else next(iter(tasks))]
        over += [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
        yield f"{state:7} {len(own):4}  {backbone} · {protocol} · {budget} · {' × '.join(over)}"


def plan_as_json(plan: RunPlan, run_options: RunOptions) -> dict[str, Any]:
    """The jobs and the estimate as plain values; the estimate is saved for the report."""
    pending = plan.pending(run_options)
    keys = {job.key for job in pending}
    jobs = [
        {"key": job.key, "title": job.title, "done": job.key not in keys} for job in plan.jobs(run_options)
    ]
    made = _estimated(plan, run_options, pending) if pending else None
    return {"jobs": jobs, "estimate": made and _as_json(made)}


def _estimated(plan: RunPlan, run_options: RunOptions, pending: Any) -> Estimate:
    from vitbench.engine.estimate import estimate, keep

    made = estimate(pending, run_options.device)
    try:
        keep(plan, made)
    except OSError as error:  # the report cannot compare it then; printing it still helps
        click.echo(f"warning: the estimate was not saved in {plan.run.path}: {error.strerror}", err=True)
    return made


NAMES = ("images_forward", "images_backward", "flops_forward", "flops_backward", "disk_bytes", "seconds")


def _as_json(made: Estimate) -> dict[str, Any]:
    totals = {name: made.total(name) for name in NAMES}
    return {
        "device": made.device,
        "jobs": len(made.jobs),
        "measured": made.measured,
        **totals,
        "unknown": made.unknown,
        "absent": made.absent,
        "remark": made.remark,
    }


def _print(made: Estimate, plan: RunPlan, workers: int) -> None:
    total = {name: made.total(name) for name in NAMES}
    click.echo(
        f"forward  {quantity(total['images_forward'])} images, {quantity(total['flops_forward'], 'FLOPs')}\n"
        f"backward {quantity(total['images_backward'])} images, {quantity(total['flops_backward'], 'FLOPs')}\n"
        f"disk     {file_size(total['disk_bytes'])}\n"
        f"time     {duration(total['seconds'])} of {made.device} ({duration(total['seconds'] / workers)} with "
        f"{workers} worker{'s' * (workers > 1)}), excluding start-up, decoding and fitting of probes"
        + (f"; speed measured {made.measured}" if made.measured else ""),
        err=True,
    )
    if made.absent:
        sets = f"{len(made.absent)} data set{'s' * (len(made.absent) > 1)}"
        click.echo(
            f"data     {sets} not ready on this machine, counted by the reference's sizes; what to download: "
            f"vitbench data status {_named(plan)}",
            err=True,
        )
    if made.remark:
        click.echo(made.remark, err=True)
    if made.unknown:
        first = next(iter(made.unknown.values()))
        click.echo(printable(f"not included ({first}): {len(made.unknown)} jobs"), err=True)


def _named(plan: RunPlan) -> str:
    """The suite if it ships with vitbench, else its tasks, as `vitbench data` takes them."""
    from vitbench.suite import packaged_suites

    if plan.suite.name in packaged_suites():
        return plan.suite.name
    return " ".join(dict.fromkeys(job.task.name for job in plan.suite.jobs))
