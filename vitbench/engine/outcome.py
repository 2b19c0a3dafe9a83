"""The outcome of a job, with or without a score: its record and its predictions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError

from vitbench.compute.environment import describe
from vitbench.core.errors import VitbenchError, message_of, source_line_of, storable
from vitbench.core.job import Job
from vitbench.core.record import Failure, Record

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """A record and, where there is a score, one row per test example; class scores (N, C) if they are to be kept.

    `further` are such rows of further test sets, by their names. `spoils_process`: the job has left its process unable to use
    the GPU, so it must be its last.
    """

    record: Record
    predictions: pd.DataFrame | None = None
    scores: NDArray[np.float16] | None = None
    spoils_process: bool = False
    further: Mapping[str, pd.DataFrame] = field(default_factory=dict)


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


def recordable(record: Record) -> Record:
    """The record as JSON can hold it: bytes that are not UTF-8, as in the name of a folder, are escaped.

    Raises:
        PydanticSerializationError: JSON cannot hold it even so.
    """
    try:
        record.model_dump_json()
    except PydanticSerializationError:
        record = Record.model_validate(_escaped(record.model_dump()))
        record.model_dump_json()
    return record


def _escaped(value: Any) -> Any:
    """Plain data with every text in UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list | tuple) else value


def now() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
