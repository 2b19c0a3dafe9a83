"""The jobs last requested of a run directory: suite.lock.yaml is the resolved suite, plan.json the list of jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from vitbench.core.errors import Problem, StorageError, UsageError
from vitbench.core.files import read_file, write_atomically
from vitbench.core.job import Job, JobLabels


def write_plan(path: Path, lock_text: str, jobs: Iterable[Job], env: dict[str, object] | None = None) -> None:
    """Write suite.lock.yaml and plan.json, and env.json if an environment is given.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_atomically(path / "suite.lock.yaml", lock_text)
        write_rows(path, ([job.key, *job.labels] for job in jobs))
        if env is not None:
            write_atomically(path / "env.json", f"{json.dumps(env, indent=1, sort_keys=True)}\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}; free some space") from error


def write_rows(path: Path, rows: Iterable[list[str]]) -> None:
    """Write plan.json: a key and the labels of its cell for each job.

    Raises:
        OSError: it cannot be written.
    """
    lines = ",\n".join(map(json.dumps, rows))
    write_atomically(path / "plan.json", f"[\n{lines}\n]\n")


def read_plan(path: Path) -> list[list[str]] | None:
    """Return the rows of plan.json, or None if there is no such file.

    Raises:
        UsageError: it is damaged.
    """
    file = path / "plan.json"
    if not file.exists():
        return None
    try:
        rows = [[str(part) for part in row] for row in json.loads(read_file(file))]
        if any(len(row) != 1 + len(JobLabels._fields) for row in rows):
            raise ValueError("a row has the wrong length")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        step = "run the suite's command again: it rewrites the plan"
        raise UsageError(Problem(f"{file} is damaged: {error}", next_step=step)) from error
    return rows


def read_plan_of(run: Path) -> list[list[str]]:
    """Return the rows of a run directory's plan.

    Raises:
        UsageError: it is not a run directory, or its plan is damaged.
    """
    rows = read_plan(run)
    if rows is None:
        what = f"{str(run)!r} is not a run directory (no plan.json)"
        raise UsageError(Problem(what, next_step="vitbench run SUITE --out DIR"))
    return rows
