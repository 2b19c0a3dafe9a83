"""The outcome of a job, with or without a score: its record and its predictions."""

from __future__ import annotations

import datetime
import traceback
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vitbench.compute.environment import describe
from vitbench.core.errors import VitbenchError, message_of, storable
from vitbench.core.job import Job
from vitbench.core.record import Failure, Record


@dataclass(frozen=True)
class Outcome:
    """A record and, where there is a score, one row per test example."""

    record: Record
    predictions: pd.DataFrame | None = None


def failed(job: Job, device: str, error: BaseException) -> Record:
    """The record of a failed job, with the reason."""
    frames = traceback.extract_tb(error.__traceback__)
    expected = isinstance(error, VitbenchError)
    line = "" if expected or not frames else f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    return Record(
        key=job.key,
        job=job,
        status="failed",
        env=describe(device),
        failure=Failure(kind=storable(type(error).__name__), message=message_of(error), where=storable(line)),
        created=now(),
    )


def now() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
