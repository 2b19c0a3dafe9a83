"""The progress of a run, read from its directory alone: on any machine, by any number of readers, while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vitbench.core.job import JobLabels
from vitbench.core.record import Record
from vitbench.store.heartbeat import Heartbeat, read_all
from vitbench.store.plan_file import read_plan_of
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.time_left import TimeLeft

SILENT_S = 600.0  # without a heartbeat for this long, a job counts as silent


@dataclass(frozen=True)
class RunStatus:
    """Jobs by state; `silent` ones were running and have stopped sending heartbeats."""

    asked: int
    done: int
    failed: tuple[Record, ...]
    working: tuple[Heartbeat, ...]
    silent: tuple[Heartbeat, ...]
    left_s: float | None
    damaged: tuple[str, ...]

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return max(self.asked - self.done - len(self.failed) - len(self.working), 0)


def run_status(path: Path) -> RunStatus:
    """Return the state of a run directory.

    Raises:
        UsageError: it is not a run directory.
    """
    run = RunDir(path)
    planned = {key: JobLabels(*labels) for key, *labels in read_plan_of(path)}
    damaged: list[str] = []
    records = load(path, damaged.append) if (path / "records").is_dir() and any(run.record_files()) else []
    ended = {record.key: record for record in records if record.key in planned}
    working: list[Heartbeat] = []
    silent: list[Heartbeat] = []
    for heartbeat in read_all(path / ".running"):
        if heartbeat.key not in ended:
            is_heard = not heartbeat.is_dead and (
                run.is_claimed(heartbeat.key) or time.time() - heartbeat.seen_s < SILENT_S
            )
            (working if is_heard else silent).append(heartbeat)
    left = [labels for key, labels in planned.items() if key not in ended]
    damaged += [
        f"{run.predictions_path(record.key)}: missing or damaged (SHA-256); running the same command again repeats the job"
        for record in ended.values()
        if record.status == "ok" and not run.is_whole(record)
    ]
    failed = tuple(record for record in ended.values() if record.status == "failed")
    left_s = TimeLeft(ended.values()).remaining_s(left, max(len(working), 1))
    return RunStatus(
        len(planned), len(ended) - len(failed), failed, tuple(working), tuple(silent), left_s, tuple(damaged)
    )
