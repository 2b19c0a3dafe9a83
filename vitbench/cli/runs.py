"""`vitbench status`, `retry`, `prune` and `merge`: run directories after, and while, jobs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.completion import complete_suite
from vitbench.cli.data import DATA_DIR
from vitbench.core.format import duration, printable

if TYPE_CHECKING:
    from vitbench.store.status import RunStatus

RUN = click.argument("run", type=click.Path(path_type=Path, file_okay=False))
PLUGINS = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Python to import first."
)
MOST_SHOWN = 20


@click.command(no_args_is_help=True)
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(run: Path, as_json: bool) -> int:
    """Say how far RUN is: from another terminal or machine, while it works or after."""
    import json

    from vitbench.store.status import run_status

    state = run_status(run)
    if as_json:
        click.echo(json.dumps(_as_json(state), indent=1, ensure_ascii=False))
    else:
        _print(run, state)
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


def _print(run: Path, state: RunStatus) -> None:
    import time

    left = f", about {duration(state.left_s)} left" if state.left_s else ""
    counts = f"{state.done} done, {len(state.failed)} failed, {len(state.working)} at work, {state.waiting} waiting"
    click.echo(f"{run}: {state.asked} jobs: {counts}{left}")
    for heartbeat in state.working:
        share = f" {heartbeat.done}/{heartbeat.total}" if heartbeat.total else ""
        since = duration(max(time.time() - heartbeat.started_s, 0))
        click.echo(
            printable(
                f"  {heartbeat.title}: {heartbeat.phase}{share}, for {since} on {heartbeat.host} ({heartbeat.device})"
            )
        )
    for heartbeat in state.silent:
        silent = duration(max(time.time() - heartbeat.seen_s, 0))
        click.echo(printable(f"  {heartbeat.title}: cut off, or silent for {silent} on {heartbeat.host}"))
    for record in state.failed[:MOST_SHOWN]:
        message = record.failure.message if record.failure else ""
        click.echo(printable(f"  failed: {record.job.title}: {message} (logs/{record.key}.log)"))
    if len(state.failed) > MOST_SHOWN:
        click.echo(f"  and {len(state.failed) - MOST_SHOWN} more that failed")
    for text in state.damaged:
        click.echo(printable(f"  damaged: {text}"))


@click.command(no_args_is_help=True)
@RUN
@PLUGINS
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", metavar="HOST:PORT", help="The Ray cluster.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N shares of the jobs.")
@DATA_DIR
def retry(run: Path, plugins: tuple[str, ...], **options: Any) -> int:
    """Run again what failed in RUN, and what is missing: by the suite as it was last asked for there."""
    from vitbench.cli.run import run as run_command
    from vitbench.core.errors import Problem, UsageError

    lock = run / "suite.lock.yaml"
    if not lock.is_file():
        raise UsageError(
            Problem(
                f"{run} holds no suite.lock.yaml", next_step="vitbench run SUITE --out DIR --retry-failed"
            )
        )
    arguments = [str(lock), "--out", str(run), "--retry-failed"]
    arguments += [part for plugin in plugins for part in ("--plugin", plugin)]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    code: int = run_command.main(arguments, standalone_mode=False)
    return code


@click.command(no_args_is_help=True)
@click.argument("suite", shell_complete=complete_suite)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Run directory  [default: runs/NAME]."
)
@PLUGINS
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="As the run was given it.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="As the run was given it.")
@click.option("--yes", is_flag=True, help="Delete; without it the files are only listed.")
def prune(suite: str, out: Path | None, yes: bool, **overrides: Any) -> None:
    """Delete from a run directory what SUITE, as it is now, does not ask for: results of changed options, of old versions."""
    from vitbench.engine.run import Overrides, plan_suite
    from vitbench.store.plan_file import write_plan
    from vitbench.store.prune import remove, unasked

    planned = plan_suite(suite, out, Overrides(**overrides))
    paths = unasked(planned.run, planned.suite.jobs)
    if yes:
        remove(paths)
        write_plan(planned.run.path, planned.suite.lock, planned.suite.jobs)
    for path in paths:
        click.echo(printable(str(path)))
    records = sum(path.parent.name == "records" for path in paths)
    what = "deleted" if yes else "would be deleted: add --yes"
    click.echo(f"{records} records, {len(paths)} files in all {what}", err=True)


@click.command(no_args_is_help=True)
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory to fill.",
)
def merge(runs: tuple[Path, ...], output: Path) -> None:
    """Put the results of RUN directories from several machines into one; two different results of one job are refused."""
    from vitbench.store.merge import merge as merge_runs
    from vitbench.store.merge import without_predictions

    count = merge_runs(runs, output)
    if lacking := without_predictions(output):
        click.echo(
            f"warning: {lacking} of them without predictions: nothing can be compared by these", err=True
        )
    click.echo(f"{count} records in {output}; make the page with: vitbench report {output}", err=True)
