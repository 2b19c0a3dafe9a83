"""What a job leaves behind, a score or not: its record, and its predictions."""

from __future__ import annotations

import datetime
import traceback
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vitbench.compute.environment import describe
from vitbench.errors import VitbenchError
from vitbench.records import Failure, Job, Record


@dataclass(frozen=True)
class Outcome:
    """A record and, where there is a score, one row per test example."""

    record: Record
    predictions: pd.DataFrame | None = None


def failed(job: Job, device: str, error: BaseException) -> Record:
    """The record of a job that has no score, and why."""
    frames = traceback.extract_tb(error.__traceback__)
    expected = isinstance(error, VitbenchError)
    place = "" if expected or not frames else f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    return Record(
        key=job.key,
        job=job,
        status="failed",
        env=describe(device),
        failure=Failure(kind=type(error).__name__, message=str(error)[:2000], where=place),
        created=now(),
    )


def now() -> str:
    """The time as records tell it, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
