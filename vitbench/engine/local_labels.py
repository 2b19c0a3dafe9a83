"""Labels of a submission against the test labels of the data that are on this machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from vitbench.api import Split, Task
from vitbench.core.errors import DataMissingError, VitbenchError, message_of
from vitbench.core.job import Component, Job
from vitbench.core.record import Record
from vitbench.core.registry import TASKS
from vitbench.data.budgets import thinned
from vitbench.store.known_tasks import known_task
from vitbench.store.submission import Checked


@dataclass
class LocalData:
    """The tasks of a submission as they are on this machine, each opened once."""

    opened: dict[str, Opened | str] = field(default_factory=dict)

    def of(self, component: Component) -> Opened | str:
        """The task of a component, or why it is not here."""
        key = f"{component.identity()}"
        if key not in self.opened:
            try:
                self.opened[key] = Opened(_opened(component))
            except DataMissingError as error:
                self.opened[key] = error.problems[0].what
            except Exception as error:  # noqa: BLE001  the options are a stranger's
                self.opened[key] = f"{component.spec} cannot be opened: {message_of(error)}"
        return self.opened[key]


def _opened(component: Component) -> Task:
    entry = TASKS.get(component.spec)[0]
    if entry.places(component.options, component.argument) or component.contents.keys() - {"data"}:
        raise DataMissingError(f"the data of {component.spec} are files of the submitter's")
    task: Task = TASKS.make(component.spec, component.options)[1]
    return task


@dataclass
class Opened:
    """A task whose data are here."""

    task: Task

    @cached_property
    def test(self) -> Split:
        """Its test split, which has the labels."""
        return self.task.test()

    def part(self, limit: int | None) -> Split:
        """The test split under a limit, in the order of its indices."""
        part = thinned(self.test, limit)
        return part.take(np.argsort(part.indices, kind="stable"))


@dataclass(frozen=True)
class Compared:
    """How many records have the local labels, the problems of others by key, and the reasons why the rest was not compared."""

    agreeing: int
    problems: dict[str, str]
    unchecked: Counter[str]


def compare_labels(found: Checked, data: LocalData | None = None) -> Compared:
    """Compare the labels and the correctness in a submission with those of the test data on this machine."""
    data, agreeing = data or LocalData(), 0
    problems: dict[str, str] = {}
    unchecked: Counter[str] = Counter()
    for record in found.records:
        if record.status != "ok":
            continue
        here = _comparable(record, data)
        if isinstance(here, str):
            unchecked[here] += 1
        elif fault := _fault(record.job, here, found.predictions(record)):
            problems[record.key] = fault
        else:
            agreeing += 1
    return Compared(agreeing, problems, unchecked)


def _comparable(record: Record, data: LocalData) -> Opened | str:
    """The task of a record here, or why its labels cannot be compared."""
    job = record.job
    here = data.of(job.task)
    if isinstance(here, str):
        return here
    try:
        stated = record.data.fingerprints.get("test", "") if record.data else ""
        if _is_packaged(job) or stated == here.test.source.fingerprint:
            return here
    except (VitbenchError, OSError) as error:
        return f"the test data of {job.task.spec} cannot be read here: {message_of(error)}"
    return f"the test images of {job.task.spec} are others here"


def _is_packaged(job: Job) -> bool:
    """Whether the data come with a package: their labels do not depend on how their images are decoded."""
    entry = known_task(job.task.name)
    return entry is not None and entry.n_test is not None and entry.data is None


def _fault(job: Job, here: Opened, rows: pd.DataFrame) -> str:
    """What differs from the local test data, if anything does."""
    test, ordered = here.part(job.limit), rows.sort_values("index")
    if not np.array_equal(ordered["index"], test.indices):
        return f"its test examples are not those of {job.task.spec} here"
    if wrong := int((ordered["label"].to_numpy() != test.labels).sum()):
        return f"{wrong:,} of {len(test):,} test labels are not those of {job.task.spec} here"
    predictions = ordered["prediction"].to_numpy(dtype=np.int64)
    for rule in here.task.rules:
        name = f"{rule.name}_correct"
        if name not in ordered or not _equal(ordered[name], rule.correct(predictions, test)):
            return f"its {name} is not what {job.task.spec} gives here"
    return ""


def _equal(stated: pd.Series[float], computed: np.ndarray) -> bool:
    return np.array_equal(stated.to_numpy(dtype=float), np.asarray(computed, dtype=float), equal_nan=True)
