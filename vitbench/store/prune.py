"""Files of a run directory that its suite does not ask for, and their removal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import KEY_LENGTH, Job
from vitbench.store.run_dir import RunDir

_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


def unasked(run: RunDir, jobs: Iterable[Job]) -> list[Path]:
    """Files and folders of a run directory that belong to none of these jobs; what is not named by a key is not ours.

    Raises:
        UsageError: it is no run directory.
    """
    if not (run.path / "plan.json").is_file():
        raise UsageError(
            Problem(
                f"{run.path} is no run directory: it holds no plan.json",
                next_step="give its path with --out DIR",
            )
        )
    keys = {job.key for job in jobs}
    found = []
    for folder in ("records", "predictions", "logs", "checkpoints"):
        named = [(path, path.name.partition(".")[0]) for path in (run.path / folder).glob("*")]
        found += [path for path, key in named if _KEY.fullmatch(key) and key not in keys]
    return sorted(found)


def remove(paths: Iterable[Path]) -> None:
    """Delete files and folders; records last, so that one that is left behind is still whole."""
    for path in sorted(paths, key=lambda path: path.parent.name == "records"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
