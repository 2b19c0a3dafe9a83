"""`vitbench run`: a suite's jobs to records, and the leaderboard at the end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.completion import complete_suite
from vitbench.cli.data import DATA_DIR, use_data_dir
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.engine.plan import RunPlan
    from vitbench.engine.run import Result


def _seeds(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from vitbench.engine.schedule import read_shard

    return read_shard(text)


@click.command(no_args_is_help=True)
@click.argument("suite", shell_complete=complete_suite)
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    metavar="B",
    help="Only this backbone: a label of the suite, or any spec.",
)
@click.option("--task", "tasks", multiple=True, metavar="T", help="Only this task.")
@click.option("--protocol", "protocols", multiple=True, metavar="P", help="Only this protocol.")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="Only this budget: full, 1k or N-shot.")
@click.option("--seeds", callback=_seeds, metavar="0,1,2", help="Seeds in place of the suite's.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="At most N examples of each split; the board says so.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory  [default: runs/NAME].",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Precision of the forward pass.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where jobs run: on this machine, or on a Ray cluster (vitbench[ray]).",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="The Ray cluster  [default: $RAY_ADDRESS, else one of this machine].",
)
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Worker processes  [default: one per GPU, else one]."
)
@click.option(
    "--shard",
    callback=lambda _context, _option, text: _shard(text),
    metavar="I/N",
    help="Only the I-th of N shares of the jobs, from 1/N to N/N: for job arrays on a shared file system.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE|MODULE",
    help="Python to import first: it registers backbones, tasks, protocols.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change one value of the suite: tasks.images.path=DIR.",
)
@DATA_DIR
@click.option("--skip-missing", is_flag=True, help="Run what there is data for; the board shows the gaps.")
@click.option(
    "--dry-run", is_flag=True, help="Print the jobs, FLOPs, hours and disk expected here; run nothing."
)
@click.option("--force", is_flag=True, help="Run what is done once more.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed before.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first job that fails.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of tables.")
def run(suite: str, out: Path | None, **options: Any) -> int:
    """Run SUITE: a YAML file, or the name of a suite that ships with vitbench.

    What is done is never run twice: the same command again finishes what was interrupted.
    """
    with _interrupted_by_sigterm():
        return _asked(suite, out, options)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """A batch system's notice is an interrupt."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _asked(suite: str, out: Path | None, options: dict[str, Any]) -> int:
    from vitbench.engine.run import Overrides, RunOptions, follow, is_follower, plan_suite

    names = (
        "backbones",
        "tasks",
        "protocols",
        "budgets",
        "seeds",
        "limit",
        "dtype",
        "settings",
        "plugins",
    )
    use_data_dir(options["data_dir"])
    overrides = Overrides(**{name: options[name] for name in names})
    launch = RunOptions(**{
        name: options[name] for name in (
            "device", "workers", "executor", "address", "shard", "force", "retry_failed", "fail_fast", "skip_missing"
        )
    })  # fmt: skip
    planned = plan_suite(suite, out, overrides)
    for plugin in planned.plugins:
        if plugin.trouble:
            click.echo(f"warning: {plugin.warning}", err=True)
    if is_follower():
        follow(planned, launch)
        return 0
    if options["dry_run"]:
        from vitbench.cli.dry_run import print_plan

        return print_plan(planned, launch, as_json=options["as_json"])
    return _run(planned, launch, as_json=options["as_json"])


def _run(planned: RunPlan, launch: Any, *, as_json: bool) -> int:
    from vitbench.cli.progress import TerminalProgress
    from vitbench.engine.run import run_planned

    try:
        result = run_planned(planned, launch, TerminalProgress())
    except KeyboardInterrupt:
        jobs = planned.jobs(launch)
        done = len(planned.run.done(jobs))
        click.echo(
            f"interrupted: {done} of {len(jobs)} jobs are done and kept in {planned.run.path}; "
            "the same command goes on from there",
            err=True,
        )
        return 130
    if result.ran == 0 and not as_json and run_is_shown(result):
        count = len(result.records)
        click.echo(f"nothing to do: all {count} jobs are done, see {planned.run.report_path}", err=True)
    else:
        _show(result, as_json)
    return _tell_failures(result)


def run_is_shown(result: Result) -> bool:
    """Whether the page is of the records that lie there now."""
    try:
        return result.run.report_path.is_file() and _shown(result).read_text() == result.run.state()
    except OSError:
        return False


def _shown(result: Result) -> Path:
    return result.run.path / ".shown"


def _show(result: Result, as_json: bool) -> None:
    from vitbench.core.files import write_atomically
    from vitbench.report.build import boards
    from vitbench.report.export import export, terminal
    from vitbench.report.keys import newest
    from vitbench.report.page import Extras, render
    from vitbench.store.record_file import load
    from vitbench.store.run_dir import estimated

    unreadable: list[str] = []
    state = result.run.state()
    everything = load(result.run.path, unreadable.append)
    for message in unreadable:
        click.echo(printable(f"warning: left out: {message}"), err=True)
    page = render(newest(everything, result.records), Extras(estimated(result.run.path)))
    write_atomically(result.run.report_path, page)
    write_atomically(_shown(result), state)
    if as_json:
        click.echo(export(result.records, "json"), nl=False)
    else:
        click.echo(printable(terminal(boards(result.records))))
    count = f"{len(result.records)} jobs, {result.ran} new"
    click.echo(f"\n{count}. Leaderboard: {result.run.report_path}", err=True)


def _tell_failures(result: Result) -> int:
    if result.without_data:
        click.echo(f"{result.without_data} jobs have no data and were left out (--skip-missing)", err=True)
    if not result.failed:
        return 0 if len(result.records) == result.asked else 1
    click.echo(f"{result.failed} jobs failed:", err=True)
    failures = [record for record in result.records if record.failure is not None]
    for record in failures[:10]:
        message = record.failure.message if record.failure else ""
        click.echo(printable(f"  {record.job.title}: {message}"), err=True)
    if len(failures) > 10:
        click.echo(f"  and {len(failures) - 10} more, all on the board", err=True)
    click.echo("once the cause is mended, run the same command with --retry-failed", err=True)
    missing = all(record.failure and record.failure.kind == "DataMissingError" for record in failures)
    return 3 if missing else 1
