"""Submissions: a run as one zip file, and the verification of such a file. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.core.errors import Problem, UsageError
from vitbench.core.files import write_atomically
from vitbench.core.record import Record
from vitbench.store.merge import merge
from vitbench.store.predictions import prediction_files, predictions_name, read_predictions
from vitbench.store.record_file import decode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission_checks import Labels, faults

if TYPE_CHECKING:
    import pandas as pd

_NAMES = re.compile(
    r"records/[0-9a-f]{24}\.json|predictions/[0-9a-f]{24}(\.[a-z0-9_-]{1,40})?\.parquet|scores/[0-9a-f]{24}\.parquet|env\.json|suite\.lock\.yaml"
)
MOST_BYTES = 4 * 2**30  # unpacked: 19 tasks x 20 backbones x 3 seeds of ImageNet-sized predictions are below
MOST_INFLATED = 30  # records are text and come to a tenth, predictions are packed already
HARMLESS_BYTES = 64 * 2**20
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # so that the same run makes the same file


@dataclass(frozen=True)
class Checked:
    """The valid records of a submission, and its problems."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]
    files: dict[str, bytes] = field(repr=False, default_factory=dict)

    def predictions(self, record: Record) -> pd.DataFrame:
        """The predictions of one of its records, one row per test example."""
        table = self.files[f"predictions/{record.key}.parquet"]
        return read_predictions(table, record.data.n_test if record.data else None)

    def has_scores(self, record: Record) -> bool:
        """Whether the class scores of one of its records were handed in."""
        return f"scores/{record.key}.parquet" in self.files

    def without(self, refused: Mapping[str, str]) -> Checked:
        """The same without the records of these keys, each with the problem that it has."""
        kept = tuple(record for record in self.records if record.key not in refused)
        found = tuple(f"records/{key}.json: {text}" for key, text in refused.items())
        return Checked(kept, self.problems + found, self.files)

    @property
    def lacking(self) -> Iterator[tuple[Record, str, str]]:
        """Yield the items of the conformance list that a record does not meet, with the reasons."""
        for record in self.records:
            for check in record.conformance:
                if not check.ok:
                    yield record, check.item, check.reason


def pack(path: Path, target: Path, *, with_scores: bool = True) -> int:
    """Write a run's records, predictions, kept class scores and environment to a zip file; return the number of records.

    Raises:
        UsageError: a record or its predictions are missing or damaged, or it is too large; nothing is written.
    """
    run = RunDir(path)
    records = load(path)
    scored = {record.key for record in records if with_scores and run.has_scores(record)}
    if sum(run.scores_path(key).stat().st_size for key in scored) > MOST_BYTES // 2:
        what = f"the class scores in {path} are too large for a submission, which has at most {MOST_BYTES:,} bytes"
        raise UsageError(Problem(what, next_step=f"vitbench pack {path} --without-scores"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in sorted(records, key=lambda record: record.key):
            if record.status == "ok":
                for name in ("", *record.test_sets):
                    run.predictions(record, test_set=name)
                    path = run.predictions_path(record.key, name)
                    _add(archive, path, f"predictions/{path.name}")
            if record.key in scored:
                run.scores(record)
                _add(archive, run.scores_path(record.key), f"scores/{record.key}.parquet")
            _add(archive, run.record_path(record.key), f"records/{record.key}.json")
        for name in ("env.json", "suite.lock.yaml"):
            if (path / name).is_file():
                _add(archive, path / name, name)
    write_atomically(target, buffer.getvalue())
    return len(records)


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, FIXED_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, path.read_bytes())


def check(path: Path, beside: Path | None = None) -> Checked:
    """Read and verify a submission: names, sizes, digests, keys, and that the predictions give the scores.

    Its test labels must be those of the run directory `beside`, where both have the same test set. Known tasks must be
    registered before.

    Raises:
        UsageError: it is not a zip file, or would unpack to more than 4 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
            if total > MOST_BYTES or (total > HARMLESS_BYTES and total > MOST_INFLATED * size):
                raise UsageError(
                    f"{path} is refused: its {size:,} bytes would unpack to {total:,}, far more than a submission"
                )
            packed = {entry.compress_type for entry in archive.infolist()}
            if packed - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise UsageError(f"{path} uses a compression method that `vitbench pack` does not use")
            strange = [entry.filename for entry in archive.infolist() if not _NAMES.fullmatch(entry.filename)]
            files = {
                entry.filename: archive.read(entry)
                for entry in archive.infolist()
                if _NAMES.fullmatch(entry.filename)
            }
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UsageError(
            Problem(f"{path} is not a submission: {error}", next_step="vitbench pack RUN -o submission.zip")
        ) from error
    problems = [f"{name[:100]!r} does not belong in a submission; left out" for name in strange]
    records, labels = [], Labels.of_run(beside) if beside else Labels()
    for name, data in sorted(files.items()):
        if name.startswith("records/"):
            found = _record(name, data, files, problems, labels)
            records += [found] if found else []
    return Checked(tuple(records), tuple(problems), files)


def _record(
    name: str, data: bytes, files: dict[str, bytes], problems: list[str], labels: Labels
) -> Record | None:
    try:
        record = decode(data)
    except ValueError as error:
        problems.append(f"{name}: {str(error).splitlines()[0]}")
        return None
    if not name == f"records/{record.key}.json" == f"records/{record.job.key}.json":
        problems.append(f"{name}: its key does not belong to its job")
        return None
    if record.status == "ok":
        tables = _tables(record, files)
        if tables is None:
            problems.append(f"{name}: its predictions are missing or do not match its SHA-256")
            return None
        scores = files.get(f"scores/{record.key}.parquet")
        if scores is not None and hashlib.sha256(scores).hexdigest() != record.scores_sha256:
            problems.append(f"{name}: its class scores do not match its SHA-256")
            return None
        if wrong := [f"{name}: {text}" for text in faults(record, tables, labels, scores)]:
            problems += wrong
            return None
    return record


def _tables(record: Record, files: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """The files of predictions by test set, '' for the task's own; None if one is missing or is not the record's."""
    digests = {"": record.predictions_sha256}
    digests |= {name: facts.predictions_sha256 for name, facts in record.test_sets.items()}
    found = {name: files.get(f"predictions/{predictions_name(record.key, name)}", b"") for name in digests}
    whole = all(hashlib.sha256(found[name]).hexdigest() == digest for name, digest in digests.items())
    return found if whole else None


def unpack(checked: Checked, out: Path) -> int:
    """Write the valid records and their predictions to a new run directory, or merge them into one that is there.

    Returns how many records it has then. Its own suite and environment are never replaced.

    Raises:
        UsageError: there is no valid record, or one differs from that of the same job there; nothing is written.
    """
    if not checked.records:
        raise UsageError("no valid record in this submission: nothing was written")
    if not out.exists():
        _write(checked, out)
        return len(checked.records)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=out.parent) as folder:
        _write(checked, Path(folder) / "run")
        return merge([Path(folder) / "run"], out)


def _write(checked: Checked, out: Path) -> None:
    kept = {f"{folder}/{record.key}.{end}" for record in checked.records for folder, end in _PARTS}
    kept |= {f"predictions/{name}" for record in checked.records for name in prediction_files(record)}
    for name, data in checked.files.items():
        if name in kept or "/" not in name:
            write_atomically(out / name, data)


_PARTS = (("records", "json"), ("predictions", "parquet"), ("scores", "parquet"))
