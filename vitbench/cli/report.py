"""`vitbench report` and `vitbench export`: records to a page or a table. Only --with-images imports torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from vitbench.cli.options import PART_OF_RESULTS, RUNS, output_file
from vitbench.cli.page_limit import refuse_too_many
from vitbench.cli.readable import readable
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.record import Record
    from vitbench.report.cell_details import Worst


class _Read(NamedTuple):
    """The records of all runs, and a message for every file that cannot be read."""

    records: list[Record]
    unreadable: tuple[str, ...]
    by_run: dict[str, list[Record]]

    @property
    def exit_code(self) -> int:
        """1 if a file is damaged: what was written lacks its result."""
        return 1 if self.unreadable else 0


def _read(files: dict[Path, list[Path]]) -> _Read:
    """Read the files of all runs: of each directory the newest record of every cell.

    Raises:
        UsageError: a run has no records, or none that can be read.
    """
    found: dict[str, Record] = {}
    unreadable: list[str] = []
    by_run = {}
    for run, own in files.items():
        records, bad = readable(own)
        by_run[str(run)] = _add(found, run, records)
        unreadable += bad
    return _Read(list(found.values()), tuple(unreadable), by_run)


def _add(found: dict[str, Record], run: Path, records: list[Record]) -> list[Record]:
    """Add the newest records of one run to those of the runs before it, and return them."""
    from vitbench.report.keys import newest

    kept = newest(records)
    if len(kept) < len(records):
        left = len(records) - len(kept)
        click.echo(f"{run}: left out {left} records that newer ones replace", err=True)
    for record in kept:
        if (other := found.get(record.key)) and other.metrics != record.metrics:
            text = f"warning: several results of {record.job.title}: using the one in {run}"
            click.echo(printable(text), err=True)
    found.update({record.key: record for record in kept})
    return kept


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
@click.option(
    "--watch", is_flag=True,
    help="Write the page again as results come, until the run is complete; an open page follows.",
)  # fmt: skip
@PART_OF_RESULTS
def report(
    runs: tuple[Path, ...], output: Path | None, published: tuple[str, ...], figures: Path | None, with_images: bool,
    watch: bool, **part: tuple[str, ...],
) -> int:  # fmt: skip
    """Write the leaderboard of one or more runs: one self-contained HTML file.

    Exits with 1 if a record file is damaged; the rest is written.
    """
    from vitbench.core.errors import UsageError
    from vitbench.store.record_heads import files_of_part

    _check_prefixes(published)
    if runs:
        if any(part.values()) and output is None:
            raise UsageError("a page of a part of the results needs an output file: add -o FILE.html")
        if watch:
            if figures is not None or with_images:
                raise UsageError("--watch writes the page alone: leave out --figures and --with-images")
            return _watched(runs, output, published, part)
        files = files_of_part(runs, **part)
        read = _write_page(files, output, published, with_images=with_images)
        if figures is not None:
            _write_figures(figures, tuple(files), read.records, published)
        return read.exit_code
    if not published:
        raise UsageError("name a run directory, or give --published PREFIX -o FILE.html")
    if figures is not None or with_images or watch:
        raise UsageError("--figures, --with-images and --watch need measured results: name a run directory")
    _report_published(published, output)
    return 0


def _watched(
    runs: tuple[Path, ...],
    output: Path | None,
    published: tuple[str, ...],
    part: Mapping[str, tuple[str, ...]],
) -> int:
    """Write the page again and again, while the runs go on."""
    from vitbench.cli.report_watch import follow
    from vitbench.store.record_heads import files_of_part

    def write(reload_s: int) -> int:
        files = files_of_part(runs, **part)
        return _write_page(files, output, published, with_images=False, reload_s=reload_s).exit_code

    return follow(runs, write)


def _write_page(
    files: dict[Path, list[Path]],
    output: Path | None,
    published: tuple[str, ...],
    *,
    with_images: bool,
    reload_s: int = 0,
) -> _Read:
    """Write the page of several runs, and return what was read."""
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.report.outcomes import predictions_of
    from vitbench.report.page import Extras, render
    from vitbench.store.run_dir import estimated

    runs = tuple(files)
    if len(runs) > 1 and output is None:
        raise UsageError("combining several runs needs an output file: add -o FILE.html")
    refuse_too_many(files)
    target = output or runs[0] / "report.html"
    expected = {key: value for run in runs for key, value in estimated(run).items()}
    read = _read(files)
    worst = _images(runs, read.records) if with_images else {}
    predictions = predictions_of(runs, read.records)
    extras = Extras(expected, published, worst, read.unreadable, predictions, read.by_run, reload_s)
    write_atomically(target, render(read.records, extras))
    click.echo(str(target))
    return read


def _write_figures(
    folder: Path, runs: tuple[Path, ...], records: list[Record], published: tuple[str, ...]
) -> None:
    from vitbench.report.build import boards
    from vitbench.report.figures import write_figures
    from vitbench.report.outcomes import predictions_of

    found = boards(records, published, predictions_of(runs, records))
    for path in write_figures(folder, found, records):
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
    "--format", "form", type=click.Choice(["csv", "md", "latex", "json", "parquet", "model-card"]), default="csv",
    show_default=True,
    help="csv, json, parquet: one row per job and metric; md, latex: the leaderboards; model-card: Hugging Face's model-index.",
)  # fmt: skip
@output_file("The file  [default: stdout].")
@PART_OF_RESULTS
def export(
    runs: tuple[Path, ...], form: str, output: Path | None, backbones: tuple[str, ...], tasks: tuple[str, ...]
) -> int:
    """Export the results of one or more runs as a table.

    Exits with 1 if a record file is damaged; the rest is written.
    """
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.report.export import FORMATS
    from vitbench.report.export import export as render
    from vitbench.report.outcomes import predictions_of
    from vitbench.store.record_heads import files_of_part

    known = next(name for name in FORMATS if name == form)
    if output is None and known == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is binary and cannot be shown in a terminal: add -o FILE.parquet")
    read = _read(files_of_part(runs, backbones, tasks))
    content = render(read.records, known, predictions_of(runs, read.records))
    if output is None:
        shown = content.decode() if sys.stdout.isatty() and known != "parquet" else None
        click.echo(content if shown is None else printable(shown), nl=False)
    else:
        write_atomically(output, content)
        click.echo(str(output), err=True)
    return read.exit_code
