"""What records are of, read without the rest of them: thousands of records are searched in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.files import read_file
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import Component, Job
from vitbench.store.record_file import checked_body, files_of, load_file


class _Labelled(BaseModel):
    label: str


class _Job(BaseModel):
    backbone: Component
    task: _Labelled


class _Head(BaseModel):
    job: _Job


@dataclass(frozen=True, slots=True)
class RecordHead:
    """A record's file, and what its job is of."""

    file: str
    backbone: str
    backbone_digest: str
    task: str


def heads(run: Path) -> list[RecordHead]:
    """The heads of all records of a run directory, or of a folder of record files, in the order of `load`.

    Raises:
        UsageError: there are no records, or a file is not a record.
    """
    with gc_paused():
        return [head_of(file) for file in files_of(run)]


def head_of(file: Path) -> RecordHead:
    """The head of one record.

    Raises:
        UsageError: the file is not a record.
    """
    job: _Job | Job
    try:
        job = _Head.model_validate_json(checked_body(read_file(file))).job
    except (OSError, ValueError):
        job = load_file(file).job  # says what is wrong with it
    return RecordHead(str(file), job.backbone.label, job.backbone.digest, job.task.label)


def chosen(
    found: Iterable[RecordHead], backbones: Iterable[str], tasks: Iterable[str]
) -> Iterator[RecordHead]:
    """The heads whose backbone and task have these labels; without labels, all.

    Raises:
        UsageError: no record has a label.
    """
    found = list(found)
    wanted = {"backbone": frozenset(backbones), "task": frozenset(tasks)}
    problems = []
    for kind, labels in wanted.items():
        known = sorted({getattr(head, kind) for head in found})
        problems += [
            Problem(f"no results of {kind} {label!r}", nearest=nearest(label, known))
            for label in sorted(labels.difference(known))
        ]
    if problems:
        raise UsageError(problems)
    for head in found:
        if all(not labels or getattr(head, kind) in labels for kind, labels in wanted.items()):
            yield head


def files_of_part(
    runs: Iterable[Path], backbones: Iterable[str], tasks: Iterable[str]
) -> dict[Path, list[Path]]:
    """The files of the records of each run whose backbone and task have these labels, and of damaged ones; without labels, all.

    Raises:
        UsageError: a run has no records, or no record has a label.
    """
    backbones, tasks = list(backbones), list(tasks)
    if not (backbones or tasks):
        return {run: files_of(run) for run in runs}
    files = {run: files_of(run) for run in runs}
    found = {
        file: head for own in files.values() for file in own if (head := _readable_head(file)) is not None
    }
    wanted = {Path(head.file) for head in chosen(found.values(), backbones, tasks)}
    return {run: [file for file in own if file in wanted or file not in found] for run, own in files.items()}


def _readable_head(file: Path) -> RecordHead | None:
    """The head of a record; None of a damaged one, which is reported by whoever loads it."""
    try:
        return head_of(file)
    except UsageError:
        return None


def related(found: Iterable[RecordHead], backbones: Iterable[str]) -> list[RecordHead]:
    """The heads of these backbones, and of all that share a label or an identity with one of them.

    Only these decide which record of a label is the newest, and which label a backbone is shown under.
    """
    found = list(found)
    labels = set(backbones)
    while True:
        digests = {head.backbone_digest for head in found if head.backbone in labels}
        more = {head.backbone for head in found if head.backbone_digest in digests} - labels
        if not more:
            return [head for head in found if head.backbone in labels]
        labels |= more
