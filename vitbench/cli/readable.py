"""The records in some files without those that cannot be read, which are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.record import Record


def readable(files: Sequence[Path]) -> tuple[list[Record], list[str]]:
    """The records that can be read, and a message for every file that cannot; each message is also printed to stderr.

    Raises:
        UsageError: none can be read.
    """
    from vitbench.core.errors import Problem, UsageError
    from vitbench.store.record_file import load_files

    unreadable: list[str] = []
    records = load_files(files, unreadable.append)
    if not records:
        raise UsageError(
            Problem(text, next_step="run the suite again: it repeats the job") for text in unreadable
        )
    for message in unreadable:
        click.echo(printable(f"warning: left out: {message}"), err=True)
    return records, unreadable
