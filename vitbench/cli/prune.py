"""`vitbench prune`: outdated results, listed and then deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.completion import complete_suite
from vitbench.cli.options import OUT, SUITE_OVERRIDES, fields_of, warn_of_broken
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.suite import Overrides


@click.command(no_args_is_help=True)
@click.argument("target", metavar="RUN|SUITE", required=False, shell_complete=complete_suite)
@OUT
@SUITE_OVERRIDES
@click.option("--yes", is_flag=True, help="Delete the files; without it they are only listed.")
def prune(target: str | None, out: Path | None, yes: bool, **options: Any) -> None:
    """Delete outdated results from a run directory.

    \b
    vitbench prune RUN
      Results superseded by newer ones with other options or another
      version. Everything else is kept, including backbones that were added
      with --backbone.

    \b
    vitbench prune SUITE --out RUN
      Everything that is not part of SUITE. Give --backbone, --task, --limit
      and so on as you gave them to `vitbench run`.

    Files are only listed; add --yes to delete them.
    """  # noqa: D301
    from vitbench.suite import Overrides

    overrides = fields_of(Overrides, options)
    folder = Path(target) if target and out is None else out
    if target and (out or not Path(target).is_dir()):
        _prune_by_suite(target, out, overrides, yes=yes)
    elif folder is not None:
        _prune_replaced(folder, overrides, yes=yes)
    else:
        raise click.UsageError("name a run directory, or a suite and --out RUN")


def _prune_replaced(run: Path, overrides: Overrides, *, yes: bool) -> None:
    from dataclasses import replace

    from vitbench.core.errors import Problem, UsageError
    from vitbench.store.prune import remove, replaced
    from vitbench.store.run_dir import RunDir
    from vitbench.suite import Overrides

    if replace(overrides, plugins=()) != Overrides():
        what = "--backbone, --task and the like say what a suite asks for, and no suite is given"
        raise UsageError(Problem(what, next_step=f"vitbench prune SUITE --out {run} with these options"))
    paths = replaced(RunDir(run))
    if yes:
        remove(paths)
    _show(paths, yes=yes)


def _prune_by_suite(suite: str, out: Path | None, overrides: Overrides, *, yes: bool) -> None:
    from vitbench.engine.plan import plan_suite
    from vitbench.store.plan_file import write_plan
    from vitbench.store.prune import remove, unasked

    planned = plan_suite(suite, out, overrides)
    warn_of_broken(planned.plugins)
    paths = unasked(planned.run, planned.suite.jobs)
    if yes:
        remove(paths)
        write_plan(planned.run.path, planned.suite.lock, planned.suite.jobs)
    _show(paths, yes=yes)


def _show(paths: Sequence[Path], *, yes: bool) -> None:
    for path in paths:
        click.echo(printable(str(path)))
    records = sum(path.parent.name == "records" for path in paths)
    what = "deleted" if yes else "would be deleted; add --yes to delete them"
    click.echo(f"{records} records, {len(paths)} files {what}" if paths else "nothing to delete", err=True)
