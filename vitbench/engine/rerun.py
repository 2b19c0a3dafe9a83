"""Some jobs of a submission run again on this machine, and their results compared with those that were handed in."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from vitbench.core.errors import VitbenchError, message_of
from vitbench.core.job import Component, Job
from vitbench.core.record import Record
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS, Registry
from vitbench.core.settings import cache_dir, check_numbers
from vitbench.engine.local_labels import LocalData
from vitbench.engine.outcome import Outcome
from vitbench.store.submission import Checked

# Another device and another BLAS round differently: an image that lies between two classes may change sides, and in
# fine-tuning a few more do. On one machine results are equal bit for bit; rewritten predictions differ by far more.
MOST_OTHER_PREDICTIONS = 0.01  # of the test images
MOST_SCORE_OFF = 0.005  # of any metric, as a fraction

Run = Callable[[Job], Outcome]


@dataclass(frozen=True)
class Difference:
    """How far a repeated job is from what was handed in: other predictions of `n`, the largest gap between scores.

    `untrue` are items of the conformance list that were stated to hold and, run again, do not.
    """

    others: int
    n: int
    score: float
    untrue: tuple[str, ...] = ()

    @property
    def is_too_large(self) -> bool:
        """Whether rounding does not explain it."""
        too_many = self.others > MOST_OTHER_PREDICTIONS * self.n
        return too_many or self.score > MOST_SCORE_OFF or bool(self.untrue)

    def __str__(self) -> str:
        rounded = (
            f"{self.others:,} of {self.n:,} predictions differ, the score by {100 * self.score:.2f} points"
        )
        untrue = "".join(f"; {item!r} does not hold" for item in self.untrue)
        return (rounded if self.others or self.score else "equal") + untrue


@dataclass
class Reruns:
    """What became of the jobs that were run again, and how many were not, by reason."""

    compared: dict[str, tuple[Job, Difference]] = field(default_factory=dict)
    not_run: Counter[str] = field(default_factory=Counter)

    @property
    def problems(self) -> dict[str, str]:
        """The differences that are too large, by key."""
        return {
            key: f"run again here: {difference} ({job.title})"
            for key, (job, difference) in self.compared.items()
            if difference.is_too_large
        }


def rerun(found: Checked, count: int, seed: int, run: Run, data: LocalData | None = None) -> Reruns:
    """Run up to `count` jobs of a submission again, those whose weights and data are here, and compare their results.

    A job that cannot start does not count; one that fails later does, so that a submission cannot keep us busy for ever.
    """
    reruns, obstacles = Reruns(), Obstacles(data or LocalData())
    records = {record.key: record for record in found.records if record.status == "ok"}
    tried = 0
    for job in spread([record.job for record in records.values()], seed):
        if tried == count:
            break
        if reason := obstacles.of(job):
            reruns.not_run[reason] += 1
            continue
        outcome = run(job)
        if failure := outcome.record.failure:
            reruns.not_run[f"{failure.phase or 'start'}: {failure.message}".splitlines()[0]] += 1
            obstacles.learn(job, outcome.record)
            tried += failure.phase not in ("", "build")
            continue
        tried += 1
        reruns.compared[job.key] = (job, _difference(records[job.key], found, outcome))
    return reruns


def _difference(record: Record, found: Checked, again: Outcome) -> Difference:
    rows = (
        again.predictions if again.predictions is not None else pd.DataFrame({"index": [], "prediction": []})
    )
    return difference(record, found.predictions(record), again.record, rows)


def difference(record: Record, rows: pd.DataFrame, again: Record, rows_again: pd.DataFrame) -> Difference:
    """Compare two results of a job, example by example; an example that only one of them has is another prediction."""
    first, second = (table.set_index("index")["prediction"] for table in (rows, rows_again))
    shared = first.index.intersection(second.index)
    total = len(first.index.union(second.index))
    same = int((first[shared] == second[shared]).sum())
    stated, computed = ({name: m.value for name, m in each.metrics.items()} for each in (record, again))
    gaps = [abs(stated.get(name, 0) - computed.get(name, 0)) for name in stated.keys() | computed.keys()]
    gaps += _further_gaps(record, again)
    holds = {check.item for check in again.conformance if check.ok is True}
    untrue = tuple(check.item for check in record.conformance if check.ok is True and check.item not in holds)
    return Difference(total - same, total, max(gaps, default=0.0), untrue)


def _further_gaps(record: Record, again: Record) -> Iterator[float]:
    """The gaps of what needs class scores, if it is stated: NLL relative to its size, which has no bound.

    Mean per-class accuracy follows from the predictions, and one other prediction moves it far if a class has few images. One
    neighbour more or less makes an NLL of votes infinite, which says nothing.
    """
    for name in ("top5", "nll", "ece"):
        own, other = (each.further.get(name) for each in (record, again))
        if own is None or own.value is None:
            continue
        if other is None or (other.value is None and name != "nll"):
            yield 1.0
        elif other.value is None:
            continue
        else:
            gap = abs(own.value - other.value)
            yield gap / max(10 * other.value, 1.0) if name == "nll" else gap


def spread(jobs: Sequence[Job], seed: int) -> Iterator[Job]:
    """The jobs in the order in which they are chosen: whose backbone and task were chosen least often comes next.

    Among equals, the smallest SHA-256 of seed and key: nobody can arrange for a job to be chosen without knowing the seed.
    """
    left = {job.key: job for job in jobs}
    lots = {key: hashlib.sha256(f"{seed} {key}".encode()).digest() for key in left}
    times: Counter[str] = Counter()

    def rank(key: str) -> tuple[int, bytes]:
        job = left[key]
        return times[f"backbone {job.backbone.digest}"] + times[f"task {job.task.digest}"], lots[key]

    while left:
        job = left.pop(min(left, key=rank))
        times.update((f"backbone {job.backbone.digest}", f"task {job.task.digest}"))
        yield job


@dataclass
class Obstacles:
    """Why a job cannot be run on this machine, found out once for each backbone, task and protocol."""

    data: LocalData
    known: dict[str, str] = field(default_factory=dict)

    def of(self, job: Job) -> str:
        """Why the job cannot run here; '' if nothing is known to stand in its way."""
        task = self.data.of(job.task)
        if isinstance(task, str):
            return task
        for registry, part in ((TASKS, job.task), (PROTOCOLS, job.protocol), (BACKBONES, job.backbone)):
            key = _key(registry, part)
            if key not in self.known:
                self.known[key] = _other_here(registry, part)
            if self.known[key]:
                return self.known[key]
        return ""

    def learn(self, job: Job, failed: Record) -> None:
        """Remember that a backbone cannot be built here."""
        if failed.failure and failed.failure.phase == "build":
            self.known[_key(BACKBONES, job.backbone)] = f"build: {failed.failure.message}".splitlines()[0]


def _key(registry: Registry, part: Component) -> str:
    return f"{registry.kind} {part.identity()}"


def _other_here(registry: Registry, part: Component) -> str:
    """Why a component is not what the submitter had; '' if it is."""
    from vitbench.engine.worker import check_contents

    try:
        check_contents(registry, part)
    except VitbenchError as error:
        what = error.problems[0].what.replace(
            "has changed since the job was planned", "is not the submitter's"
        )
        return what.replace(" then, ", " there, ").replace(" now", " here")
    except Exception as error:  # noqa: BLE001  the options are a stranger's
        return f"{registry.kind} {part.spec} cannot be checked: {message_of(error)}"
    return ""


@contextlib.contextmanager
def here(device: str, plugins: Sequence[str] = ()) -> Generator[Run, None, None]:
    """Yield a function that runs a job on this machine, in a run directory that is deleted afterwards."""
    from vitbench.engine.executors.workers import Workers, work

    check_numbers()
    with tempfile.TemporaryDirectory(prefix="vitbench-rerun-") as folder:
        worker = Workers.choose(device, 1, cache_dir(), plugins=plugins, run=Path(folder)).worker()
        yield lambda job: work(job, worker, plugins)
