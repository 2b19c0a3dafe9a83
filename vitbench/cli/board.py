"""`vitbench report` and `vitbench export`: records to a page, a table or a file. No torch here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vitbench.records import Record

RUNS = click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))


def _records(runs: tuple[Path, ...]) -> list[Record]:
    """The records of all runs, of each directory the newest of every cell."""
    from vitbench.report.frame import newest
    from vitbench.store import load

    found: dict[str, Record] = {}
    for run in runs:
        records = load(run)
        kept = newest(records)
        if len(kept) < len(records):
            left = len(records) - len(kept)
            click.echo(f"{run}: {left} records that later ones stand in for are left out", err=True)
        found.update({record.key: record for record in kept})
    return list(found.values())


@click.command(no_args_is_help=True)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page  [default: RUN/report.html].",
)
@click.option(
    "--published", metavar="PATTERN", help="A page of the published rows whose names have this start instead."
)
def report(runs: tuple[Path, ...], output: Path | None, published: str | None) -> None:
    """Make the leaderboard of one or more RUN directories: one HTML file that loads nothing."""
    from vitbench.errors import UsageError
    from vitbench.files import write_atomically

    if published is not None:
        _report_published(published, output, runs)
        return
    if not runs:
        raise UsageError("give a run directory, or --published PATTERN -o FILE.html")
    from vitbench.report.html import render
    from vitbench.store import estimated

    if len(runs) > 1 and output is None:
        raise UsageError("several runs make a page of their own: add -o FILE.html")
    target = output or runs[0] / "report.html"
    expected = {key: value for run in runs for key, value in estimated(run).items()}
    write_atomically(target, render(_records(runs), estimated=expected))
    click.echo(str(target))


def _report_published(pattern: str, output: Path | None, runs: tuple[Path, ...]) -> None:
    from vitbench.errors import Problem, UsageError
    from vitbench.files import write_atomically
    from vitbench.report.paper import render_published
    from vitbench.report.published import published

    rows = [row for row in published() if row.id.startswith(pattern)]
    if runs or output is None:
        raise UsageError("published rows make a page of their own, without runs: add -o FILE.html")
    if not rows:
        raise UsageError(
            Problem(f"no published row begins with {pattern!r}", next_step="vitbench list published")
        )
    write_atomically(output, render_published(rows, rows[0].source.paper))
    click.echo(str(output))


@click.command(no_args_is_help=True)
@RUNS
@click.option(
    "--format", "form", type=click.Choice(["csv", "md", "latex", "json", "parquet"]), default="csv", show_default=True,
    help="csv, json, parquet: one row per job and metric; md, latex: the boards.",
)  # fmt: skip
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file  [default: stdout].",
)
def export(runs: tuple[Path, ...], form: str, output: Path | None) -> None:
    """Write the results of one or more RUN directories as a table."""
    from vitbench.errors import UsageError
    from vitbench.files import write_atomically
    from vitbench.report.exports import FORMATS
    from vitbench.report.exports import export as render

    known = next(name for name in FORMATS if name == form)
    if output is None and known == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is not for a terminal: add -o FILE.parquet")
    content = render(_records(runs), known)
    if output is None:
        click.echo(content, nl=False)
    else:
        write_atomically(output, content)
        click.echo(str(output), err=True)
