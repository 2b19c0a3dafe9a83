"""`vitbench run --dry-run`: the jobs, and an estimate of their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vitbench.core.format import duration, file_size, printable, quantity

if TYPE_CHECKING:
    from vitbench.engine.estimate import Estimate
    from vitbench.engine.plan import RunOptions, RunPlan


def print_plan(plan: RunPlan, run_options: RunOptions, *, as_json: bool) -> int:
    """Print the jobs with their states and estimate the pending ones; the estimate is saved for the report."""
    if as_json:
        import json

        click.echo(json.dumps(plan_as_json(plan, run_options), indent=1, ensure_ascii=False))
        return 0
    jobs, pending = plan.jobs(run_options), plan.pending(run_options)
    keys = {job.key for job in pending}
    for job in jobs:
        record = plan.done.get(job.key)
        was = "failed" if record is not None and record.status == "failed" else "done"
        click.echo(f"{'to run' if job.key in keys else was:7} {job.key[:8]}  {printable(job.title)}")
    done = len(jobs) - len(keys)
    click.echo(f"{len(jobs)} jobs, {done} done, {len(keys)} to run in {plan.run.path}", err=True)
    if pending:
        _print(_estimated(plan, run_options, pending), workers=run_options.workers or 1)
    return 0


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
    }


def _print(made: Estimate, workers: int) -> None:
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
    if made.unknown:
        first = next(iter(made.unknown.values()))
        click.echo(printable(f"not included ({first}): {len(made.unknown)} jobs"), err=True)
