"""`vitbench report RUN --watch`: the page follows a run, and open pages follow the page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

EVERY_S = 10.0  # between two looks at the records; open pages look as often


def follow(runs: Sequence[Path], write: Callable[[int], int]) -> int:
    """Write the page whenever records have come, until the plans of all runs are complete or Ctrl-C.

    `write` takes the seconds after which an open page takes a newer one, 0 for the last time, and returns an exit code.

    Raises:
        UsageError: one is not a run directory.
    """
    seen: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        while waiting := _waiting(runs):
            if any(_has_records(run) for run in runs):
                if (state := _state(runs)) != seen:
                    seen = state
                    write(max(1, round(EVERY_S)))
                    click.echo(f"{waiting} jobs to come; Ctrl-C ends watching, not the run", err=True)
            elif not seen:
                seen = ["none"]
                click.echo("waiting for the first result", err=True)
            time.sleep(EVERY_S)
    return write(0)


def _waiting(runs: Sequence[Path]) -> int:
    """How many jobs of the plans have no record yet."""
    from vitbench.store.plan_file import read_plan_of
    from vitbench.store.run_dir import RunDir

    return sum(not RunDir(run).record_path(key).is_file() for run in runs for key, *_ in read_plan_of(run))


def _has_records(run: Path) -> bool:
    from vitbench.store.run_dir import RunDir

    return any(RunDir(run).record_files())


def _state(runs: Sequence[Path]) -> list[str]:
    from vitbench.store.run_dir import RunDir

    return [RunDir(run).state() for run in runs]
