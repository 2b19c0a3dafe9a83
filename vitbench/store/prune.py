"""Files of a run directory that are no longer needed, and their deletion."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from vitbench.core.job import KEY_LENGTH, Job
from vitbench.store.plan_file import read_plan_of
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir

_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


def replaced(run: RunDir) -> list[Path]:
    """Return files of results that the run has replaced: their cell was last requested with other options, and succeeded.

    Everything else is kept: backbones added on the command line, cells that are no longer requested, unreadable records.

    Raises:
        UsageError: it is not a run directory.
    """
    asked = {row[0] for row in read_plan_of(run.path)}
    records = load(run.path, lambda _unreadable: None) if any(run.record_files()) else []
    current = {
        record.job.board_position for record in records if record.key in asked and record.status == "ok"
    }
    old = {
        record.key for record in records if record.key not in asked and record.job.board_position in current
    }
    return _files(run, old.__contains__)


def unasked(run: RunDir, jobs: Iterable[Job]) -> list[Path]:
    """Return files of a run directory that belong to none of these jobs.

    Raises:
        UsageError: it is not a run directory.
    """
    read_plan_of(run.path)
    keys = {job.key for job in jobs}
    return _files(run, lambda key: key not in keys)


def _files(run: RunDir, is_chosen: Callable[[str], bool]) -> list[Path]:
    """Return files and folders of the chosen jobs; those not named after a key are not ours."""
    found = []
    for folder in ("records", "predictions", "scores", "logs", "checkpoints"):
        named = [(path, path.name.partition(".")[0]) for path in (run.path / folder).glob("*")]
        found += [path for path, key in named if _KEY.fullmatch(key) and is_chosen(key)]
    return sorted(found)


def remove(paths: Iterable[Path]) -> None:
    """Delete files and folders; records last, so that after an interruption every record is still complete."""
    for path in sorted(paths, key=lambda path: path.parent.name == "records"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
