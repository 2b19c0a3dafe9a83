"""`vitbench run`: run a suite and write its leaderboard."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.completion import complete_suite
from vitbench.cli.options import OUT, RUN_OPTIONS, SUITE_OVERRIDES, fields_of, warn_of_broken
from vitbench.core.errors import UsageError
from vitbench.core.gc_pause import gc_paused

if TYPE_CHECKING:
    from vitbench.engine.plan import RunOptions, RunPlan
    from vitbench.engine.run import Progress, Result


@click.command(no_args_is_help=True)
@click.argument("suite", shell_complete=complete_suite)
@OUT
@SUITE_OVERRIDES
@RUN_OPTIONS
def run(suite: str, out: Path | None, **options: Any) -> int:
    """Run a suite. SUITE is a YAML file, or the name of a suite that ships with vitbench.

    Finished jobs are never repeated: the same command continues an interrupted run.
    """
    with gc_paused():
        from vitbench.engine.run import Overrides, RunOptions, plan_suite

    with interrupted_by_sigterm():
        with gc_paused():
            plan = plan_suite(suite, out, fields_of(Overrides, options))
        return execute(plan, fields_of(RunOptions, options), options)


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM, a batch system's notice, interrupts like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def execute(plan: RunPlan, run_options: RunOptions, options: Mapping[str, Any]) -> int:
    """Run the pending jobs of a plan, or print them for --dry-run, and return the exit code."""
    from vitbench.engine.run import follow, is_follower

    warn_of_broken(plan.plugins)
    if is_follower():
        follow(plan, run_options)
        return 0
    if options["dry_run"]:
        from vitbench.cli.dry_run import print_plan

        return print_plan(plan, run_options, as_json=options["as_json"], verbose=options["verbose"])
    refuse_for_dry_run_only(options)
    return _run(plan, run_options, options)


def refuse_for_dry_run_only(options: Mapping[str, Any]) -> None:
    """Refuse options that a run would ignore.

    Raises:
        UsageError: one is given.
    """
    if given := [f"--{name}" for name in ("on", "measure", "verbose") if options.get(name)]:
        raise UsageError(f"{' and '.join(given)}: for --dry-run only")


def _run(plan: RunPlan, run_options: RunOptions, options: Mapping[str, Any]) -> int:
    from vitbench.cli.logs import logged
    from vitbench.cli.progress import TerminalProgress
    from vitbench.cli.run_results import show_failures, show_results

    with logged(options["logs"], plan, TerminalProgress()) as progress:
        result = measured(plan, run_options, progress)
        if result is None:
            return 130
        show_results(result, as_json=options["as_json"])
    return show_failures(result)


def measured(plan: RunPlan, run_options: RunOptions, progress: Progress | None = None) -> Result | None:
    """Run the pending jobs of a plan with progress on the terminal; None if it was interrupted, which is said."""
    from vitbench.cli.progress import TerminalProgress
    from vitbench.engine.run import run_planned

    try:
        return run_planned(plan, run_options, progress or TerminalProgress())
    except KeyboardInterrupt:
        jobs = plan.jobs(run_options)
        done = f"{len(plan.run.done(jobs))} of {len(jobs)} jobs are done and saved in {plan.run.path}"
        click.echo(f"interrupted: {done}; run the same command again to continue", err=True)
        return None
