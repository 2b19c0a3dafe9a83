"""The contract of places where results go as they come, beside the run directory, such as an experiment tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from vitbench.core.job import Job
from vitbench.core.record import Record


class RunLog(ABC):
    """A place that is told of a run while it goes on, in the driver's process; register it by `register_log`.

    What it raises is said once, ends its log, and does not end the run: records are what counts.
    """

    def begin(self, run: Path, name: str, jobs: Sequence[Job]) -> None:  # noqa: B027  not all have to prepare
        """The run directory, the suite's name, and all jobs of which the pending ones are run now."""

    @abstractmethod
    def job(self, record: Record) -> None:
        """A job has ended, well or not."""

    def end(self, board: Path | None) -> None:  # noqa: B027  not all keep files
        """The run is over, or interrupted; the page of its leaderboard, if one was written."""


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record: its metrics as on the board's export, and what it cost; {} of a job that failed."""
    if record.status != "ok":
        return {}
    found = {
        name: metric.value for name, metric in (record.metrics or {}).items() if metric.value is not None
    }
    if (cost := record.cost) is not None:
        known = {
            "device_seconds": cost.device_seconds,
            "energy_joules": cost.energy_joules,
            "peak_memory_bytes": cost.peak_memory_bytes,
            "flops_per_image": cost.flops_per_image,
        }
        found |= {name: float(value) for name, value in known.items() if value is not None}
    return found


def series(job: Job) -> str:
    """What a job's numbers are filed under: task, protocol and budget; backbone and seed are told apart otherwise."""
    return f"{job.task.label}/{job.protocol.label}/{job.budget}"


def described(job: Job) -> dict[str, str | int]:
    """What a job is, in words."""
    return {
        "backbone": job.backbone.label,
        "task": job.task.label,
        "protocol": job.protocol.label,
        "budget": job.budget,
        "seed": job.seed,
        "key": job.key,
    }
