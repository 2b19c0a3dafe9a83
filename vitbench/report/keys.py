"""Records to one tidy table: a row per (job, metric), a failed job keeps one row without a value."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vitbench.core.files import digest_bytes
from vitbench.core.job import Component, Job
from vitbench.core.record import Record


def setting_key(job: Job) -> str:
    """The column that a number stands in: its setting and budget."""
    return digest({**setting_of(job), "budget": job.budget})


def curve_key(job: Job) -> str:
    """The curve that a number is a point of: its setting without the budget, its task and its backbone."""
    return digest({**setting_of(job), "task": job.task.identity(), "backbone": job.backbone.identity()})


def component_key(component: Component) -> str:
    """The identity of a backbone or a task."""
    return component.digest


def task_key(record: Record) -> str:
    """A task's identity with its test data; of a job that met none, the identity alone."""
    test = record.data.fingerprints.get("test", "") if record.data else ""
    key = component_key(record.job.task)
    return f"{key} {test}" if test else key


def digest(parts: Any) -> str:
    """A short name for plain data."""
    return digest_bytes(json.dumps(parts, sort_keys=True, default=str).encode())[:8]


def distinct_labels(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A label for every key, given (key, label) pairs; keys that share a label are told apart by a part of the key."""
    labels = dict(pairs)
    counts: dict[str, int] = {}
    for label in labels.values():
        counts[label] = counts.get(label, 0) + 1
    return {key: label if counts[label] == 1 else f"{label} #{key[:4]}" for key, label in labels.items()}


def newest(records: Iterable[Record], current: Iterable[Record] = ()) -> list[Record]:
    """The records of one run directory without those that another one stands in for: one of `current`, else the latest.

    A cell is the same cell while its labels are: when the data behind a label, an option or a version changes, the new record
    has another key, and the old one must not share the board with it.
    """
    cells: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=lambda record: record.created):
        cells[_cell(record.job)] = record
    for record in current:
        cells[_cell(record.job)] = record
    return list(cells.values())


def _cell(job: Job) -> tuple[Any, ...]:
    labels = (job.backbone.label, job.task.label, job.protocol.label)
    return (*labels, job.budget, job.seed, *job.measuring.values())


def setting_of(job: Job) -> dict[str, Any]:
    """What must agree for two numbers to be compared: the protocol and everything that changes the measuring."""
    return {"protocol": job.protocol.identity(), **job.measuring}
