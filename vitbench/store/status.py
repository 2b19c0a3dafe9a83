"""How far a run is, from what lies in its directory: read on any machine, by any number of people, while it works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import Cell
from vitbench.core.record import Record
from vitbench.store.heartbeat import Heartbeat, read_all
from vitbench.store.plan_file import read_plan
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.time_left import TimeLeft

SILENT_S = 600.0  # after which a job without a heartbeat of life is doubted


@dataclass(frozen=True)
class RunStatus:
    """Jobs by state; `silent` were at work and have not been heard of."""

    asked: int
    done: int
    failed: tuple[Record, ...]
    working: tuple[Heartbeat, ...]
    silent: tuple[Heartbeat, ...]
    left_s: float | None
    damaged: tuple[str, ...]

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun."""
        return max(self.asked - self.done - len(self.failed) - len(self.working), 0)


def run_status(path: Path) -> RunStatus:
    """The state of a run directory.

    Raises:
        UsageError: it is none.
    """
    run = RunDir(path)
    cells = _plan(run)
    damaged: list[str] = []
    records = load(path, damaged.append) if (path / "records").is_dir() and any(run.record_files()) else []
    ended = {record.key: record for record in records if record.key in cells}
    working: list[Heartbeat] = []
    silent: list[Heartbeat] = []
    for heartbeat in read_all(path / ".running"):
        if heartbeat.key not in ended:
            is_heard = not heartbeat.is_dead and (
                run.is_claimed(heartbeat.key) or time.time() - heartbeat.seen_s < SILENT_S
            )
            (working if is_heard else silent).append(heartbeat)
    left = [cell for key, cell in cells.items() if key not in ended]
    damaged += [
        f"{run.predictions_path(record.key)}: not what was written, or gone; the same command does the job again"
        for record in ended.values()
        if record.status == "ok" and not run.is_whole(record)
    ]
    failed = tuple(record for record in ended.values() if record.status == "failed")
    left_s = TimeLeft(ended.values()).remaining_s(left, max(len(working), 1))
    return RunStatus(
        len(cells), len(ended) - len(failed), failed, tuple(working), tuple(silent), left_s, tuple(damaged)
    )


def _plan(run: RunDir) -> dict[str, Cell]:
    rows = read_plan(run.path)
    if rows is None:
        raise UsageError(
            Problem(
                f"{run.path} is no run directory: it holds no plan.json",
                next_step="vitbench run SUITE --out DIR",
            )
        )
    return {key: Cell(*cell) for key, *cell in rows}
