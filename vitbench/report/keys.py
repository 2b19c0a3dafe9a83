"""What makes results comparable: keys of settings, curves and tasks, and records grouped into cells."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from vitbench.core.files import digest_bytes
from vitbench.core.job import Component, Job
from vitbench.core.record import Record


def setting_key(job: Job) -> str:
    """The key of a job's board: its setting with the budget."""
    return digest({**setting_of(job), "budget": job.budget})


def by_setting(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by setting, in their order."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[setting_key(record.job)].append(record)
    return found


def curve_key(job: Job) -> str:
    """The key of a curve over budgets: the setting without the budget, the task and the backbone."""
    return digest({**setting_of(job), "task": job.task.identity(), "backbone": job.backbone.identity()})


def component_key(component: Component) -> str:
    """The identity of a backbone or a task."""
    return component.digest


def task_key(record: Record) -> str:
    """A task's identity with its test data; the identity alone if the job failed before it opened them."""
    test = record.data.fingerprints.get("test", "") if record.data else ""
    key = component_key(record.job.task)
    return f"{key} {test}" if test else key


class CellKey(NamedTuple):
    """One backbone on one task in one setting."""

    setting: str
    backbone: str
    task: str


def cells(records: Iterable[Record]) -> dict[CellKey, list[Record]]:
    """Records by cell, seeds in order; a job that failed before it opened its data joins the cell of its task."""
    found: dict[CellKey, list[Record]] = defaultdict(list)
    for setting, own in by_setting(records).items():
        with_data = {component_key(r.job.task): key for r in own if " " in (key := task_key(r))}
        for record in own:
            key = task_key(record)
            cell = CellKey(setting, component_key(record.job.backbone), with_data.get(key, key))
            found[cell].append(record)
    return {key: sorted(own, key=lambda record: record.job.seed) for key, own in found.items()}


def digest(parts: Any) -> str:
    """A short name for plain data."""
    return digest_bytes(json.dumps(parts, sort_keys=True, default=str).encode())[:8]


def distinct_labels(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A label for every key, given (key, label) pairs; shared labels are made unique by a part of the key."""
    labels = dict(pairs)
    counts: dict[str, int] = {}
    for label in labels.values():
        counts[label] = counts.get(label, 0) + 1
    return {key: label if counts[label] == 1 else f"{label} #{key[:4]}" for key, label in labels.items()}


def newest(records: Iterable[Record], current: Iterable[Record] = ()) -> list[Record]:
    """The records of one run directory without superseded ones: one record per set of labels, of `current` or the latest.

    When the data behind a label, an option or a version changes, the new record has another key; the old record must not
    share the board with it.
    """
    found: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=lambda record: record.created):
        found[record.job.board_position] = record
    for record in current:
        found[record.job.board_position] = record
    return list(found.values())


def setting_of(job: Job) -> dict[str, Any]:
    """What must agree for two results to be comparable: the protocol and everything that changes the measurement."""
    return {"protocol": job.protocol.identity(), **job.measuring}
