"""The outcome of a job, with or without a score: its record and its predictions."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pandas as pd

from vitbench.compute.environment import describe
from vitbench.core.errors import VitbenchError, message_of, source_line_of, storable
from vitbench.core.job import Job
from vitbench.core.record import Failure, Record


@dataclass(frozen=True)
class Outcome:
    """A record and, where there is a score, one row per test example."""

    record: Record
    predictions: pd.DataFrame | None = None


def failed(job: Job, device: str, error: BaseException, phase: str = "") -> Record:
    """The record of a failed job, with the reason, and with the phase that it failed in."""
    line = "" if isinstance(error, VitbenchError) else source_line_of(error)
    return Record(
        key=job.key,
        job=job,
        status="failed",
        env=describe(device),
        failure=Failure(
            kind=storable(type(error).__name__), message=message_of(error), where=storable(line), phase=phase
        ),
        created=now(),
    )


def now() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
