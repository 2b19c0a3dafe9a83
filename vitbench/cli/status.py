"""`vitbench status`: how far a run is, while it works and after."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.options import JSON, RUN
from vitbench.core.format import duration, printable

if TYPE_CHECKING:
    from vitbench.store.heartbeat import Heartbeat
    from vitbench.store.status import RunStatus

MOST_SHOWN = 20


@click.command(no_args_is_help=True)
@RUN
@JSON
def status(run: Path, as_json: bool) -> int:
    """Show the progress of a run, from any terminal or machine.

    Exits with 1 if a job failed or a file is damaged.
    """
    import json

    from vitbench.store.status import run_status

    state = run_status(run)
    if as_json:
        click.echo(json.dumps(_as_json(state), indent=1, ensure_ascii=False))
    else:
        click.echo(printable("\n".join([_counts(run, state), *_details(state)])))
    return 1 if state.failed or state.damaged else 0


def _as_json(state: RunStatus) -> dict[str, Any]:
    return {
        "asked": state.asked,
        "done": state.done,
        "failed": [
            {"key": record.key, "title": record.job.title, "message": record.failure and record.failure.message}
            for record in state.failed
        ],
        "working": [heartbeat.model_dump() for heartbeat in state.working],
        "silent": [heartbeat.model_dump() for heartbeat in state.silent],
        "waiting": state.waiting,
        "left_s": state.left_s,
        "damaged": list(state.damaged),
    }  # fmt: skip


def _counts(run: Path, state: RunStatus) -> str:
    left = f", about {duration(state.left_s)} left" if state.left_s else ""
    counts = f"{state.done} done, {len(state.failed)} failed, {len(state.working)} running, {state.waiting} waiting"
    return f"{run}: {state.asked} jobs: {counts}{left}"


def _details(state: RunStatus) -> list[str]:
    lines = [f"  {_running(heartbeat)}" for heartbeat in state.working]
    lines += [f"  {_silent(heartbeat)}" for heartbeat in state.silent]
    for record in state.failed[:MOST_SHOWN]:
        message = record.failure.message if record.failure else ""
        lines.append(f"  failed: {record.job.title}: {message} (logs/{record.key}.log)")
    if len(state.failed) > MOST_SHOWN:
        lines.append(f"  and {len(state.failed) - MOST_SHOWN} more failed jobs (--json lists all)")
    return [*lines, *(f"  damaged: {text}" for text in state.damaged)]


def _running(heartbeat: Heartbeat) -> str:
    part_done = f" {heartbeat.done}/{heartbeat.total}" if heartbeat.total else ""
    since = duration(max(time.time() - heartbeat.started_s, 0))
    return f"{heartbeat.title}: {heartbeat.phase}{part_done}, for {since} on {heartbeat.host} ({heartbeat.device})"


def _silent(heartbeat: Heartbeat) -> str:
    silent = duration(max(time.time() - heartbeat.seen_s, 0))
    return f"{heartbeat.title}: killed, or no sign of life for {silent} on {heartbeat.host}"
