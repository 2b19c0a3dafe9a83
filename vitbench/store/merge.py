"""Several run directories, such as those of several machines, merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.core.errors import Problem, UsageError
from vitbench.core.files import read_file, write_atomically
from vitbench.core.record import Record
from vitbench.store.plan_file import read_plan, write_rows
from vitbench.store.predictions import prediction_files
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd

# What two runs of one job may differ in: where, when and how fast.
_CIRCUMSTANCES = {"cost": None, "created": "", "env": None, "predictions_sha256": "", "scores_sha256": ""}
# Rounding moves NLL and calibration error a little, the others follow from predictions; older records have none of them.
_BESIDE = {"further": {}, "score_kind": "unknown"}


@dataclass(frozen=True)
class _Stored:
    """A record, and the run directory that it is in."""

    run: RunDir
    record: Record

    @property
    def is_bare(self) -> bool:
        """Whether the predictions are missing."""
        folder = self.run.predictions_path(self.record.key).parent
        return any(not (folder / name).exists() for name in prediction_files(self.record))

    def replaces(self, other: _Stored) -> bool:
        """Whether this is preferred to another record of its job: success to failure, with more of it to the same with less."""
        if other.record.status == "failed":
            return self.record.status == "ok"
        return self._extent > other._extent and self.agrees_with(other)

    @property
    def _extent(self) -> tuple[bool, bool, bool]:
        """Whether predictions, class scores and the metrics beside the task's own are there."""
        return not self.is_bare, self.run.has_scores(self.record), bool(self.record.further)

    def agrees_with(self, other: _Stored) -> bool:
        """Whether two records of one job agree, down to single predictions."""
        if self._result() != other._result():
            return False
        if prediction_files(self.record) == prediction_files(other.record):
            return True
        try:
            return all(
                self._predicted(name).equals(other._predicted(name)) for name in ("", *self.record.test_sets)
            )
        except UsageError:  # one is a copy of the records alone
            return True

    def _predicted(self, test_set: str) -> pd.Series[int]:
        return self.run.predictions(self.record, test_set=test_set)["prediction"]

    def _result(self) -> Record:
        """Return what must agree wherever a job runs: rounding may change the loss of a trial, but not a score."""
        beside = {"further": {}, "predictions_sha256": ""}
        sets = {name: facts.model_copy(update=beside) for name, facts in self.record.test_sets.items()}
        return self.record.model_copy(
            update={**_CIRCUMSTANCES, **_BESIDE, "trials": (), "notes": (), "job": None, "test_sets": sets}
        )


def merge(sources: Sequence[Path], out: Path) -> int:
    """Merge the records of several run directories into one, and return how many it has then.

    If a job failed in one and succeeded in another, the success is kept. Everything is checked before anything is written.

    Raises:
        UsageError: two have different results of one job, or a file is damaged; the message names all of them.
    """
    chosen: dict[str, _Stored] = {}
    problems: list[Problem] = []
    target = RunDir(out)
    earlier = [out] if (out / "records").is_dir() else []
    for run in map(RunDir, [*earlier, *sources]):
        for record in load(run.path, lambda text: problems.append(Problem(text))):
            _choose(chosen, _Stored(run, record), problems)
    plans = [_plan(path, problems) for path in (*earlier, *sources)]
    locks = {lock for path in sources if (lock := _lock(path, problems)) is not None}
    if problems:
        raise UsageError(problems)
    for stored in chosen.values():
        if stored.run.path.resolve() != out.resolve():
            _copy(stored, target)
    write_rows(out, {row[0]: row for plan in plans for row in plan}.values())
    if len(locks) == 1 and not earlier:
        write_atomically(out / "suite.lock.yaml", locks.pop())
    return len(chosen)


def without_predictions(out: Path) -> int:
    """Return how many records of a run directory lack their predictions and so cannot be compared."""
    return sum(_Stored(RunDir(out), record).is_bare for record in load(out))


def _plan(path: Path, problems: list[Problem]) -> list[list[str]]:
    """Return the plan of a directory, so that the merged one knows what is missing."""
    try:
        return read_plan(path) or []
    except UsageError as error:
        problems.extend(error.problems)
        return []


def _lock(path: Path, problems: list[Problem]) -> str | None:
    """Return the resolved suite of a directory, if it has one."""
    lock = path / "suite.lock.yaml"
    try:
        return read_file(lock).decode() if lock.exists() else None
    except (OSError, ValueError) as error:
        step = "copy the file again; the next run writes a new one" if isinstance(error, ValueError) else ""
        problems.append(Problem(f"not readable: {error}", where=str(lock), next_step=step))
        return None


def _choose(chosen: dict[str, _Stored], new: _Stored, problems: list[Problem]) -> None:
    run, record = new.run, new.record
    there = [name for name in ("", *record.test_sets) if run.predictions_path(record.key, name).exists()]
    if there and not run.is_whole(record):
        try:
            for name in there:
                run.predictions(record, test_set=name)
        except UsageError as error:
            problems.extend(error.problems)
            return
    if run.has_scores(record):
        try:
            run.scores(record)
        except UsageError as error:
            problems.extend(error.problems)
            return
    other = chosen.get(record.key)
    if other is None or new.replaces(other):
        chosen[record.key] = new
    elif other.record.status == record.status == "ok" and not other.agrees_with(new):
        scores = " and ".join(_scores(each) for each in (other.record, record))
        problems.append(
            Problem(
                f"two different results of {record.job.title}: {scores}",
                where=f"{other.run.record_path(record.key)} and {run.record_path(record.key)}",
                next_step="compare their logs (RUN/logs) and env.json, and merge without the run that is wrong",
            )
        )


def _scores(record: Record) -> str:
    return ", ".join(f"{name} {metric.value:.4f}" for name, metric in record.metrics.items())


def _copy(stored: _Stored, target: RunDir) -> None:
    run, key = stored.run, stored.record.key
    for name in ("", *stored.record.test_sets):
        predictions = run.predictions_path(key, name)
        if predictions.exists():
            write_atomically(target.predictions_path(key, name), predictions.read_bytes())
    if run.has_scores(stored.record):
        write_atomically(target.scores_path(key), run.scores_path(key).read_bytes())
    write_atomically(target.record_path(key), run.record_path(key).read_bytes())
