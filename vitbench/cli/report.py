"""`vitbench report` and `vitbench export`: records to a page or a table. Only --with-images imports torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.cli.options import PART_OF_RESULTS, RUNS, output_file
from vitbench.cli.page_limit import refuse_too_many
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.record import Record
    from vitbench.report.cell_details import Worst


def _records(files: dict[Path, list[Path]]) -> list[Record]:
    """Return the records in the files of all runs: of each directory the newest one of every cell."""
    from vitbench.report.keys import newest
    from vitbench.store.record_file import load_files

    found: dict[str, Record] = {}
    for run, own in files.items():
        records = load_files(own)
        kept = newest(records)
        if len(kept) < len(records):
            left = len(records) - len(kept)
            click.echo(
                f"{run}: left out {left} records that newer ones replace",
                err=True,
            )
        twice = [
            record for record in kept if (other := found.get(record.key)) and other.metrics != record.metrics
        ]
        for record in twice:
            click.echo(
                printable(f"warning: several results of {record.job.title}: using the one in {run}"), err=True
            )
        found.update({record.key: record for record in kept})
    return list(found.values())


@click.command(no_args_is_help=True)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@output_file("The page  [default: RUN/report.html].")
@click.option(
    "--published", metavar="PREFIX", multiple=True,
    help="Add the published rows whose ids begin with PREFIX; without RUN, a page of published rows only.",
)  # fmt: skip
@click.option(
    "--figures", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Also write every chart as SVG, PNG and PDF.",
)  # fmt: skip
@click.option(
    "--with-images", is_flag=True, help="Embed the 24 most confident errors per cell (needs the data sets)."
)
@PART_OF_RESULTS
def report(
    runs: tuple[Path, ...], output: Path | None, published: tuple[str, ...], figures: Path | None, with_images: bool,
    backbones: tuple[str, ...], tasks: tuple[str, ...],
) -> None:  # fmt: skip
    """Write the leaderboard of one or more runs: one self-contained HTML file."""
    from vitbench.core.errors import UsageError
    from vitbench.store.record_heads import files_of_part

    _check_prefixes(published)
    if runs:
        if (backbones or tasks) and output is None:
            raise UsageError("a page of a part of the results needs an output file: add -o FILE.html")
        files = files_of_part(runs, backbones, tasks)
        records = _write_page(files, output, published, with_images=with_images)
        if figures is not None:
            _write_figures(figures, records, published)
    elif not published:
        raise UsageError("name a run directory, or give --published PREFIX -o FILE.html")
    elif figures is not None or with_images:
        raise UsageError("--figures and --with-images need measured results: name a run directory")
    else:
        _report_published(published, output)


def _write_page(
    files: dict[Path, list[Path]], output: Path | None, published: tuple[str, ...], *, with_images: bool
) -> list[Record]:
    """Write the page of several runs, and return their records."""
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.report.page import Extras, render
    from vitbench.store.run_dir import estimated

    runs = tuple(files)
    if len(runs) > 1 and output is None:
        raise UsageError("combining several runs needs an output file: add -o FILE.html")
    refuse_too_many(files)
    target = output or runs[0] / "report.html"
    expected = {key: value for run in runs for key, value in estimated(run).items()}
    records = _records(files)
    worst = _images(runs, records) if with_images else {}
    write_atomically(target, render(records, Extras(expected, published, worst)))
    click.echo(str(target))
    return records


def _write_figures(folder: Path, records: list[Record], published: tuple[str, ...]) -> None:
    from vitbench.report.build import boards
    from vitbench.report.figures import write_figures

    for path in write_figures(folder, boards(records, published), records):
        click.echo(str(path))


def _images(runs: tuple[Path, ...], records: list[Record]) -> Worst:
    """Return the most confident errors of every cell, and warn of those that cannot be shown."""
    from vitbench.engine.components import load_all
    from vitbench.report.mistake_images import most_confident_errors

    load_all()

    return most_confident_errors(runs, records, lambda text: click.echo(f"warning: {text}", err=True))


def _check_prefixes(prefixes: tuple[str, ...]) -> None:
    from vitbench.core.errors import Problem, UsageError, nearest

    if not prefixes:
        return
    from vitbench.published import published

    names = [row.id for row in published()]
    unknown = [
        prefix for prefix in prefixes if not prefix or not any(name.startswith(prefix) for name in names)
    ]
    if unknown:
        step = "vitbench list published"
        raise UsageError(
            Problem(f"no published id begins with {prefix!r}", "", nearest(prefix, names), step)
            for prefix in unknown
        )


def _report_published(prefixes: tuple[str, ...], output: Path | None) -> None:
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.published import published
    from vitbench.report.published_page import render_published

    if output is None:
        raise UsageError("a page of published rows only needs an output file: add -o FILE.html")
    rows = [row for row in published() if row.id.startswith(prefixes)]
    write_atomically(output, render_published(rows, rows[0].source.paper))
    click.echo(str(output))


@click.command(no_args_is_help=True)
@RUNS
@click.option(
    "--format", "form", type=click.Choice(["csv", "md", "latex", "json", "parquet"]), default="csv", show_default=True,
    help="csv, json, parquet: one row per job and metric; md, latex: the leaderboards.",
)  # fmt: skip
@output_file("The file  [default: stdout].")
@PART_OF_RESULTS
def export(
    runs: tuple[Path, ...], form: str, output: Path | None, backbones: tuple[str, ...], tasks: tuple[str, ...]
) -> None:
    """Export the results of one or more runs as a table."""
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.report.export import FORMATS
    from vitbench.report.export import export as render
    from vitbench.store.record_heads import files_of_part

    known = next(name for name in FORMATS if name == form)
    if output is None and known == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is binary and cannot be shown in a terminal: add -o FILE.parquet")
    content = render(_records(files_of_part(runs, backbones, tasks)), known)
    if output is None:
        shown = content.decode() if sys.stdout.isatty() and known != "parquet" else None
        click.echo(content if shown is None else printable(shown), nl=False)
    else:
        write_atomically(output, content)
        click.echo(str(output), err=True)
