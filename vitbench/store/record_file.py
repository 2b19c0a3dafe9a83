"""Record files: a record as JSON after its own SHA-256, and all records of a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from vitbench.core.errors import Problem, UsageError, first_reason, storable
from vitbench.core.files import read_file
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import SCHEMA_VERSION
from vitbench.core.record import Record

_HEAD = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def files_of(path: Path) -> list[Path]:
    """Return the files of all records of a run directory, or of a folder of record files, in order.

    Raises:
        UsageError: there are none.
    """
    folder = path / "records" if (path / "records").is_dir() else path
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    files = [file for file in files if file.name != "env.json"]
    if not files:
        raise UsageError(Problem(f"no records in {path}", next_step="vitbench run SUITE --out " + str(path)))
    return files


def load(path: Path, on_unreadable: Callable[[str], None] | None = None) -> list[Record]:
    """Return all records of a run directory, or of a folder of record files.

    `on_unreadable` is called for every file that this version cannot read; without it such a file is an error.

    Raises:
        UsageError: there are no records, or a file is not a record.
    """
    return load_files(files_of(path), on_unreadable)


def load_files(files: Iterable[Path], on_unreadable: Callable[[str], None] | None = None) -> list[Record]:
    """Return the records in these files; `on_unreadable` as for `load`.

    Raises:
        UsageError: a file is not a record.
    """
    records = []
    with gc_paused():
        for file in files:
            try:
                records.append(load_file(file))
            except UsageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(storable(f"{error.problems[0].where}: {error.problems[0].what}"))
    return records


def load_file(file: Path) -> Record:
    """Return the record in a file.

    Raises:
        UsageError: it is not a record.
    """
    try:
        record = decode(read_file(file))
        trouble = "" if record.key == record.job.key else "its key does not belong to its job"
    except ValidationError as error:
        trouble = first_reason(error)
    except ValueError as error:
        trouble = str(error)
    except OSError as error:
        trouble = str(error.strerror)
    if trouble:
        raise UsageError(
            repeat_job(
                f"not a record that this version of vitbench can read (schema {SCHEMA_VERSION}): {trouble}",
                file,
            )
        )
    return record


def repeat_job(what: str, file: Path) -> Problem:
    """A problem with a file of a run whose next step is to repeat the job; the run replaces what is damaged."""
    return Problem(what, where=str(file), next_step="run the suite again: it repeats the job")


def encode(record: Record) -> bytes:
    """Return the contents of a record's file."""
    body = record.model_dump_json(indent=1).removeprefix("{\n").encode() + b"\n"
    return b'{\n "sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def decode(data: bytes) -> Record:
    """Return the record in the contents of a file.

    Raises:
        ValueError: the contents are not what was written (ValidationError: they are, but by another version).
    """
    return Record.model_validate_json(checked_body(data))


def checked_body(data: bytes) -> bytes:
    """Return the JSON text of a record's file.

    Raises:
        ValueError: it is not what was written.
    """
    head = _HEAD.match(data)
    if head is None:
        raise ValueError("it does not begin with its SHA-256")
    body = data[head.end() :]
    if hashlib.sha256(body).hexdigest().encode() != head[1]:
        raise ValueError("SHA-256 mismatch: truncated, edited, or damaged on disk")
    return b"{" + body
