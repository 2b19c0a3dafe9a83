"""`vitbench run --dry-run`: the jobs, and an estimate of their cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vitbench.core.format import duration, file_size, printable, quantity
from vitbench.data.tfds.needs import needs

if TYPE_CHECKING:
    from vitbench.core.job import Job
    from vitbench.engine.estimate import Estimate
    from vitbench.engine.plan import RunOptions, RunPlan


def print_plan(plan: RunPlan, run_options: RunOptions, *, as_json: bool, verbose: bool = False) -> int:
    """Print what the pending jobs will cost, then how many there are of each kind, or with `verbose` each.

    The estimate is saved for the report.
    """
    if as_json:
        import json

        click.echo(json.dumps(plan_as_json(plan, run_options), indent=1, ensure_ascii=False))
        return 0
    jobs, pending = plan.jobs(run_options), plan.pending(run_options)
    keys = {job.key for job in pending}
    done = len(jobs) - len(keys)
    click.echo(f"{len(jobs)} jobs, {done} done, {len(keys)} to run in {plan.run.path}", err=True)
    if pending:
        for line in _summary(_estimated(plan, run_options, pending), plan, workers=run_options.workers or 1):
            click.echo(printable(line), err=True)
    for line in _each(plan, jobs, keys) if verbose else _by_kind(plan, jobs, keys):
        click.echo(printable(line))
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

    made = estimate(pending, run_options.device, run_options.on, measure=run_options.measure)
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
        "speed": made.speed,
        **totals,
        "memory": [asdict(need) for need in made.memory],
        "unknown": made.unknown,
        "absent": made.absent,
        "downloads": [asdict(need) for need in needs(made.absent)],
        "remark": made.remark,
    }


def _summary(made: Estimate, plan: RunPlan, workers: int) -> Iterator[str]:
    """The estimate in lines: work, memory, disk, time, data, and what cannot be estimated."""
    total = {name: made.total(name) for name in NAMES}
    yield f"forward  {quantity(total['images_forward'])} images, {quantity(total['flops_forward'], 'FLOPs')}"
    yield f"backward {quantity(total['images_backward'])} images, {quantity(total['flops_backward'], 'FLOPs')}"
    yield from _memory(made)
    yield f"disk     {file_size(total['disk_bytes'])} of records and features"
    with_workers = f"{duration(total['seconds'] / workers)} with {workers} worker{'s' * (workers > 1)}"
    yield (
        f"time     {duration(total['seconds'])} of {made.device} ({with_workers}), excluding start-up, decoding and "
        f"fitting of probes{'; ' if made.speed else ''}{made.speed}"
    )
    yield from _data(made, plan)
    if made.remark:
        yield made.remark
    if made.unknown:
        yield f"not included ({next(iter(made.unknown.values()))}): {len(made.unknown)} jobs"


def _memory(made: Estimate) -> Iterator[str]:
    for need in made.memory:
        at_once = {None: "", 0: ": not one image fits"}.get(
            need.at_once, f": up to {need.at_once} images at once"
        )
        yield (
            f"memory   {need.backbone} at {need.size_px} px in training: {file_size(need.weights_bytes)} and "
            f"{file_size(need.image_bytes)} an image in bfloat16{at_once}"
        )


def _data(made: Estimate, plan: RunPlan) -> Iterator[str]:
    """What must be downloaded before: how much, what by hand and how, and what to type."""
    wanted = needs(made.absent)
    if not wanted:
        return
    sets = f"{len(wanted)} data set{'s' * (len(wanted) > 1)}"
    download, disk = (
        sum(getattr(need, name) for need in wanted) for name in ("download_bytes", "disk_bytes")
    )
    yield f"data     {sets} not ready on this machine, counted by the reference's sizes"
    yield f"         {file_size(download)} to download, up to {file_size(disk)} of disk while they are prepared:"
    for need in sorted(wanted, key=lambda need: need.download_bytes):
        yield f"         {file_size(need.download_bytes):>9}  {need.name}{'  by hand, see below' * bool(need.steps)}"
    for need in wanted:
        yield from (f"by hand  {need.name}: {step}" for step in need.steps)
    yield f"next     vitbench data prepare {_named(plan)} -j 2"
    yield "         or run what there is: the same command with --skip-missing; --task T runs chosen tasks"


def _named(plan: RunPlan) -> str:
    """The suite if it ships with vitbench, else its tasks, as `vitbench data` takes them."""
    from vitbench.suite import packaged_suites

    if plan.suite.name in packaged_suites():
        return plan.suite.name
    return " ".join(dict.fromkeys(job.task.name for job in plan.suite.jobs))
