"""What a run directory was asked for: the resolved suite and its jobs, written when a run begins, read by whoever looks on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from vitbench.core.errors import Problem, StorageError, UsageError
from vitbench.core.files import read_file, write_atomically
from vitbench.core.job import Cell, Job


def write_plan(path: Path, lock_text: str, jobs: Iterable[Job], env: dict[str, object] | None = None) -> None:
    """Keep what is asked for, resolved, job by job, and where it runs, if it does.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_atomically(path / "suite.lock.yaml", lock_text)
        write_rows(path, ([job.key, *job.cell] for job in jobs))
        if env is not None:
            write_atomically(path / "env.json", f"{json.dumps(env, indent=1, sort_keys=True)}\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}; free some space") from error


def write_rows(path: Path, rows: Iterable[list[str]]) -> None:
    """A plan alone: a key and the labels of its cell for each job.

    Raises:
        OSError: it cannot be written.
    """
    lines = ",\n".join(map(json.dumps, rows))
    write_atomically(path / "plan.json", f"[\n{lines}\n]\n")


def read_plan(path: Path) -> list[list[str]] | None:
    """The rows of a run directory's plan, or None if there is none.

    Raises:
        UsageError: there is one, and it is damaged.
    """
    file = path / "plan.json"
    if not file.exists():
        return None
    try:
        rows = [[str(part) for part in row] for row in json.loads(read_file(file))]
        if any(len(row) != 1 + len(Cell._fields) for row in rows):
            raise ValueError("a row of another length")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        step = "give the suite's command again: it writes the plan anew"
        raise UsageError(Problem(f"{file} is damaged: {error}", next_step=step)) from error
    return rows
