"""A run directory: which jobs are done, and their records. Several processes may read and write it at once.

A record's file begins with the SHA-256 of the rest, and a record contains that of its predictions: what the disk, the network
or an editor has changed is never mistaken for a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from vitbench.core.errors import Problem, StorageError, UsageError, is_full
from vitbench.core.files import read_file, write_atomically
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.store.predictions import prediction_files, predictions_name, read_predictions
from vitbench.store.record_file import decode, encode, repeat_job

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RunDir:
    """The directory of one run."""

    path: Path

    @property
    def report_path(self) -> Path:
        """The path of the leaderboard."""
        return self.path / "report.html"

    def record_path(self, key: str) -> Path:
        """The file of one record."""
        return self.path / "records" / f"{key}.json"

    def predictions_path(self, key: str, test_set: str = "") -> Path:
        """The file of one job's per-example predictions, of the task's own test split or of a further test set."""
        return self.path / "predictions" / f"{predictions_name(key, test_set)}"

    def scores_path(self, key: str) -> Path:
        """The file of one job's class scores, if they are kept."""
        return self.path / "scores" / f"{key}.parquet"

    def done(self, jobs: Iterable[Job]) -> dict[str, Record]:
        """Return the records of these jobs by key. A job whose record or predictions are damaged counts as not done."""
        found = {}
        with gc_paused():
            has_predictions = self.has_predictions()
            for job in jobs:
                record = self.read(job.key, job)
                if record is not None and (not has_predictions or self._matches(record)):
                    found[job.key] = record
        return found

    def read(self, key: str, job: Job | None = None) -> Record | None:
        """Return the valid record of a key, or None; faster if the job is given as well."""
        try:
            # Names joined as text: for thousands of files, creating Paths takes longer than reading them.
            record = decode(read_file(f"{self.path}/records/{key}.json"))
        except (OSError, ValueError):
            return None
        is_its_own = record.key == key and (record.job == job or record.job.key == key)
        return record if is_its_own else None

    def write(
        self,
        record: Record,
        predictions: pd.DataFrame | None = None,
        scores: NDArray[np.float16] | None = None,
        further: Mapping[str, pd.DataFrame] | None = None,
    ) -> Record:
        """Write a record after its predictions and class scores, so that it never lacks them, and return it as written.

        `further` are predictions of further test sets, by their names. Predictions without scores are of a new result: scores
        of an earlier one are deleted.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            if scores is not None:
                record = self._write_scores(record, scores)
            elif predictions is not None:
                self.scores_path(record.key).unlink(missing_ok=True)
            return self._write(self._write_further(record, further or {}), predictions)
        except OSError as error:
            step = "free some space, then run the same command again: all saved results are intact"
            what = f"the record of {record.job.title} cannot be written to {self.path}: {error.strerror}"
            raise StorageError(
                Problem(what, next_step=step if is_full(error) else "choose another directory with --out DIR")
            ) from error

    def _write(self, record: Record, predictions: pd.DataFrame | None) -> Record:
        if predictions is not None:
            digest = _write_table(self.predictions_path(record.key), predictions)
            record = record.model_copy(update={"predictions_sha256": digest})
        write_atomically(self.record_path(record.key), encode(record))
        return record

    def _write_further(self, record: Record, further: Mapping[str, pd.DataFrame]) -> Record:
        facts = dict(record.test_sets)
        for name, table in further.items():
            digest = _write_table(self.predictions_path(record.key, name), table)
            facts[name] = facts[name].model_copy(update={"predictions_sha256": digest})
        return record.model_copy(update={"test_sets": facts}) if further else record

    def _write_scores(self, record: Record, scores: NDArray[np.float16]) -> Record:
        from vitbench.store.scores import encode_scores

        data = encode_scores(scores)
        write_atomically(self.scores_path(record.key), data)
        return record.model_copy(update={"scores_sha256": hashlib.sha256(data).hexdigest()})

    def scores(self, record: Record) -> NDArray[np.float16]:
        """Return the class scores (N, C) of a record, in the order of its predictions.

        Raises:
            UsageError: they were not kept, are missing or are damaged.
        """
        from vitbench.store.scores import decode_scores

        path, what = self.scores_path(record.key), f"the class scores of {record.job.title}"
        if not record.scores_sha256 or record.data is None:
            step = "run the suite again with --keep-scores"
            raise UsageError(Problem(f"{what} were not kept", where=str(path), next_step=step))
        try:
            data = read_file(path)
            if hashlib.sha256(data).hexdigest() != record.scores_sha256:
                raise ValueError("damaged (SHA-256 mismatch)")
            return decode_scores(data, record.data.n_test, record.data.num_classes)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            step = "run the suite again with --keep-scores: it repeats the job"
            raise UsageError(Problem(f"{what}: {reason}", where=str(path), next_step=step)) from error

    def has_scores(self, record: Record) -> bool:
        """Whether the class scores of a record were kept and are there. They are not read: they may be large."""
        return bool(record.scores_sha256) and self.scores_path(record.key).is_file()

    def predictions(self, record: Record, columns: Collection[str] = (), test_set: str = "") -> pd.DataFrame:
        """Return the predictions of a record, one row per test example; with `columns`, those of them that are there.

        Of the task's own test split, or of a further test set.

        Raises:
            UsageError: they are missing or damaged.
        """
        path = self.predictions_path(record.key, test_set)
        rows, digest = record.data.n_test if record.data else None, record.predictions_sha256
        if test_set:
            rows, digest = record.test_sets[test_set].n, record.test_sets[test_set].predictions_sha256
        try:
            data = read_file(path)
        except OSError as error:
            raise UsageError(
                repeat_job(f"the predictions of {record.job.title}: {error.strerror}", path)
            ) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise UsageError(
                repeat_job(f"the predictions of {record.job.title} are damaged (SHA-256 mismatch)", path)
            )
        try:
            return read_predictions(data, rows, columns)
        except ValueError as error:
            raise UsageError(repeat_job(f"the predictions of {record.job.title}: {error}", path)) from error

    def is_whole(self, record: Record) -> bool:
        """Whether a record's predictions are those that it was made from; true in a copy without any predictions."""
        return not self.has_predictions() or self._matches(record)

    def has_predictions(self) -> bool:
        """Whether this directory has predictions at all: some copies have only the records."""
        return (self.path / "predictions").is_dir()

    def _matches(self, record: Record) -> bool:
        try:
            return all(
                hashlib.sha256(read_file(f"{self.path}/predictions/{name}")).hexdigest() == digest
                for name, digest in prediction_files(record).items()
            )
        except OSError:
            return False

    def make_writable(self) -> None:
        """Make sure that records can be written.

        Raises:
            UsageError: the directory is read-only, full, or not a directory.
        """
        try:
            self.record_path("x").parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / ".writable", "")
            (self.path / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                Problem(
                    f"the run directory {self.path} cannot be written: {error.strerror}",
                    next_step="choose another one with --out DIR",
                )
            ) from error

    def forget_checkpoints(self, key: str) -> None:
        """Delete the checkpoints of a finished job."""
        shutil.rmtree(self.path / "checkpoints" / key, ignore_errors=True)

    def claim(self, key: str) -> FileLock | None:
        """Return a lock on one job, or None while another run works on it. Release it when the record is written."""
        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def is_claimed(self, key: str) -> bool:
        """Whether a run works on a job, according to the locks that this machine can see."""
        if not (self.path / ".locks" / f"{key}.lock").exists():
            return False
        try:
            lock = self.claim(key)
        except OSError:  # somebody else's directory, read-only to us
            return False
        if lock is not None:
            lock.release()
        return lock is None

    def record_files(self) -> Iterator[Path]:
        """Yield the files of all records."""
        yield from (self.path / "records").glob("*.json")

    def state(self) -> str:
        """Return a digest that changes whenever a record is added, deleted or replaced."""
        facts: list[tuple[str, int, int]] = []
        with contextlib.suppress(OSError), os.scandir(self.path / "records") as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    with contextlib.suppress(OSError):  # a link in a loop
                        stat = entry.stat()
                        facts.append((entry.name, stat.st_size, stat.st_mtime_ns))
        facts.sort()
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _lock(self, key: str) -> FileLock:
        folder = self.path / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")


def _write_table(path: Path, table: pd.DataFrame) -> str:
    """Write predictions, and return the SHA-256 of their file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def estimated(path: Path) -> dict[str, float]:
    """Return the seconds that a dry run has estimated for jobs, by key; empty if there was no dry run."""
    try:
        jobs = json.loads(read_file(path / "estimate.json"))["jobs"]
        found = {str(job["key"]): float(job["seconds"]) for job in jobs if job["seconds"] is not None}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {key: seconds for key, seconds in found.items() if 0 <= seconds < math.inf}
