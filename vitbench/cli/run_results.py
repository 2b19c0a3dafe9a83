"""What `vitbench run` and `vitbench retry` show at the end: tables, the page, and what failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.cli.readable import readable
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.record import Record
    from vitbench.engine.run import Result

MOST_SHOWN = 10


def show_results(result: Result, *, as_json: bool) -> None:
    """Print the leaderboard and write its page, unless nothing is new since the page was written."""
    if result.ran == 0 and not as_json and _is_shown(result):
        page = result.run.report_path
        click.echo(f"nothing to do: all {len(result.records)} jobs are done, see {page}", err=True)
        return
    no_page = write_page(result)
    _print(result, as_json)
    count = f"{len(result.records)} jobs, {result.ran} new"
    where = f"No leaderboard: {no_page}" if no_page else f"Leaderboard: {result.run.report_path}"
    click.echo(printable(f"\n{count}. {where}"), err=True)


def _is_shown(result: Result) -> bool:
    """Whether the page shows the records that are there now."""
    try:
        return (
            result.run.report_path.is_file()
            and _shown(result).read_text(encoding="utf-8") == result.run.state()
        )
    except OSError:
        return False


def _shown(result: Result) -> Path:
    return result.run.path / ".shown"


def write_page(result: Result) -> str:
    """Write the page, and return why it cannot be written if there are too many records."""
    from vitbench.cli.page_limit import refuse_too_many
    from vitbench.core.errors import UsageError
    from vitbench.core.files import write_atomically
    from vitbench.core.gc_pause import gc_paused
    from vitbench.report.keys import newest

    with gc_paused():
        from vitbench.report.outcomes import predictions_of
        from vitbench.report.page import Extras, render
    from vitbench.store.record_file import files_of
    from vitbench.store.run_dir import estimated

    state = result.run.state()
    files = files_of(result.run.path)
    try:
        refuse_too_many({result.run.path: files})
    except UsageError as error:
        return str(error)
    everything, unreadable = readable(files)
    records = newest(everything, result.records)
    predictions = predictions_of([result.run.path], records)
    extras = Extras(estimated(result.run.path), unreadable=tuple(unreadable), predictions=predictions)
    write_atomically(result.run.report_path, render(records, extras))
    write_atomically(_shown(result), state)
    return ""


def _print(result: Result, as_json: bool) -> None:
    from vitbench.report.build import boards
    from vitbench.report.export import export, terminal

    if as_json:
        click.echo(export(result.records, "json"), nl=False)
    else:
        click.echo(printable(terminal(boards(result.records))))


def show_failures(result: Result) -> int:
    """Print what failed and what had no data, and return the exit code."""
    if result.without_data:
        click.echo(f"{result.without_data} jobs skipped: their data is missing (--skip-missing)", err=True)
    if not result.failed:
        return 0 if len(result.records) == result.asked else 1
    failures = [record for record in result.records if record.failure is not None]
    click.echo(f"{result.failed} jobs failed:", err=True)
    alike: dict[tuple[str, str], list[Record]] = {}
    for record in failures:
        message = record.failure.message if record.failure else ""
        alike.setdefault((record.job.backbone.label, message), []).append(record)
    for (backbone, message), records in list(alike.items())[:MOST_SHOWN]:
        title = records[0].job.title if len(records) == 1 else f"{backbone}, {len(records)} jobs"
        click.echo(printable(f"  {title}: {message}"), err=True)
    if len(alike) > MOST_SHOWN:
        click.echo(f"  and {len(alike) - MOST_SHOWN} more, all listed on the leaderboard", err=True)
    click.echo(
        f"fix the cause, then: vitbench retry {result.run.path} (or the same command with --retry-failed)",
        err=True,
    )
    missing = all(record.failure and record.failure.kind == "DataMissingError" for record in failures)
    return 3 if missing else 1
