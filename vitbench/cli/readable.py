"""The records of a run directory without the files that cannot be read, which are named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.record import Record


def readable(run: Path) -> tuple[list[Record], list[str]]:
    """The records that can be read, and a message for every file that cannot; each message is also printed to stderr.

    Raises:
        UsageError: there are no records, or none that can be read.
    """
    from vitbench.core.errors import Problem, UsageError
    from vitbench.store.record_file import load

    unreadable: list[str] = []
    records = load(run, unreadable.append)
    if not records:
        raise UsageError(
            Problem(text, next_step="run the suite again: it repeats the job") for text in unreadable
        )
    for message in unreadable:
        click.echo(printable(f"warning: left out: {message}"), err=True)
    return records, unreadable
