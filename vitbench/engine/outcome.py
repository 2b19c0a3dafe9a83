"""What a job leaves behind, a score or not: its record, and its predictions."""

from __future__ import annotations

import datetime
import traceback
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vitbench.compute.environment import describe
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job
from vitbench.core.record import Failure, Record

MOST_SAID = 2000  # characters


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
        failure=Failure(kind=_plain(type(error).__name__), message=said(error), where=_plain(place)),
        created=now(),
    )


def said(error: BaseException) -> str:
    """What an error says, whatever it is."""
    try:
        return _plain(str(error))
    except Exception:  # noqa: BLE001  a plugin's error may have any text, or none
        return "its message cannot be told"


def _plain(text: str) -> str:
    """What a record can hold: no half of a surrogate pair, as in names of files that are no UTF-8."""
    return text[:MOST_SAID].encode(errors="backslashreplace").decode()


def now() -> str:
    """The time as records tell it, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
