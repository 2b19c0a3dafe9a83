"""What a submission's records state, recomputed from their predictions, jobs and data: nothing handed in is believed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitbench.core.conformance import ITEMS, Evidence, conformance
from vitbench.core.errors import UsageError
from vitbench.core.record import Record
from vitbench.store.further_set_checks import faults_of_test_set, score_faults
from vitbench.store.known_tasks import contradictions, known_size
from vitbench.store.predictions import CLUSTER, read_predictions
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission_metrics import further_faults

if TYPE_CHECKING:
    import pandas as pd

# What cannot be seen from a record: how pixels were normalised, and that selection was not on test.
NOT_RECOMPUTED = ("pixels as the weights expect", "selection not on test")
NOT_CHECKED = (
    "not checked: whether predictions are the network's own. A SHA-256 is no signature: predictions rewritten together with "
    "everything else cannot be told from honest ones without running the jobs again"
)


@dataclass
class Labels:
    """The labels of every test set seen so far, by task and fingerprint: all records of one test set must have the same.

    By task too, as one image has other labels in another task. By index, as a limit leaves some out.
    """

    seen: dict[tuple[str, str], tuple[pd.Series[int], str]] = field(default_factory=dict)

    def fault(self, record: Record, rows: pd.DataFrame) -> Iterator[str]:
        """A text if these labels are not those of an earlier record of the same test set."""
        test = record.data.fingerprints.get("test", "") if record.data else ""
        own = rows.set_index("index")["label"].astype(np.int64)
        known, name = self.seen.setdefault((record.job.task.name, test), (own, record.key[:8]))
        shared = own.index.intersection(known.index)
        if test and not own[shared].equals(known[shared]):
            yield f"its test labels differ from those of {name}, which has the same test images"

    @classmethod
    def of_run(cls, path: Path) -> Labels:
        """The labels in a run directory, of one record of each test set; records without readable predictions are left out."""
        run, labels = RunDir(path), cls()
        for record in load(path, lambda _unreadable: None) if any(run.record_files()) else ():
            test = record.data.fingerprints.get("test", "") if record.data else ""
            if record.status == "ok" and (record.job.task.name, test) not in labels.seen:
                with contextlib.suppress(UsageError, KeyError, ValueError):
                    list(labels.fault(record, run.predictions(record)))
        return labels


def faults(
    record: Record, tables: Mapping[str, bytes], labels: Labels, scores: bytes | None = None
) -> Iterator[str]:
    """A text for everything that a record states and its predictions, class scores, job or data do not give.

    `tables` are files of predictions: '' that of the task's own test split, the others by their test set.
    """
    if record.data is None:
        yield "the number of test examples is missing"
        return
    try:
        rows = read_predictions(tables[""], record.data.n_test)
        own = [name for name in record.metrics if name not in record.test_sets]
        columns = {name: rows[f"{name}_correct"].to_numpy(dtype=float) for name in own}
        right = rows["prediction"].to_numpy() == rows["label"].to_numpy()
        found = [*_rows(rows, columns, right), *_classes(record, rows)]
        clusters = rows[CLUSTER].to_numpy(dtype=np.int64) if CLUSTER in rows else None
        found += [*_scores(record, columns, clusters), *_worst(record, columns)]
        found = found or list(further_faults(record, rows, scores))
        found = found or list(_confusion(record, rows))
        found = found or list(labels.fault(record, rows))
        found += [
            text for name in record.test_sets for text in faults_of_test_set(record, name, tables[name])
        ]
    except Exception as error:  # noqa: BLE001  a stranger's file may raise anything
        yield f"its predictions are not readable: {type(error).__name__}: {error}"
        return
    yield from found
    yield from contradictions(record)
    yield from _conformance(record)


def _rows(rows: pd.DataFrame, columns: dict[str, np.ndarray], right: np.ndarray) -> Iterator[str]:
    if not rows["index"].is_unique:
        yield "test examples are counted more than once"
    if not columns:
        yield "it has no metric"
    for name in sorted(set(rows.columns) - {f"{name}_correct" for name in columns}):
        if name.endswith("_correct"):
            yield f"its predictions have {name}, which is not among its metrics"
    for name, values in columns.items():
        if not np.isin(values[~np.isnan(values)], (0, 1)).all():
            yield f"{name}_correct has values other than 0, 1 and not counted"
    if "top1" in columns and not (columns["top1"] == right).all():
        yield "top1_correct differs from prediction == label"


def _classes(record: Record, rows: pd.DataFrame) -> Iterator[str]:
    """Labels and predictions of classes that there are not."""
    classes = record.data.num_classes if record.data else 0
    for name in ("label", "prediction"):
        least, most = int(rows[name].min()), int(rows[name].max())
        if not 0 <= least <= most < classes:
            yield f"its {name}s range from {least} to {most}, its task has {classes} classes"


def _scores(record: Record, columns: dict[str, np.ndarray], clusters: np.ndarray | None) -> Iterator[str]:
    """Every metric and interval that differs from what the predictions give."""
    for name, correct in columns.items():
        yield from score_faults(name, record.metrics[name], correct, clusters)


def _confusion(record: Record, rows: pd.DataFrame) -> Iterator[str]:
    """A confusion matrix, or a list of confusions, that the predictions do not give."""
    if record.confusion is None or record.data is None:
        return
    count = record.data.num_classes
    pairs = rows["label"].to_numpy(dtype=np.int64) * count + rows["prediction"].to_numpy(dtype=np.int64)
    found = np.bincount(pairs, minlength=count * count).reshape(count, count)
    if record.confusion.matrix:
        agrees = found.tolist() == [list(row) for row in record.confusion.matrix]
    else:
        agrees = _are_the_most(record.confusion.mistakes, found)
    if not agrees:
        yield "its confusion matrix is not that of its predictions"


def _are_the_most(stated: Sequence[tuple[str, str, int]], found: np.ndarray) -> bool:
    """Whether these are the most frequent confusions. Records do not list the names of classes: each must have one."""
    counts = found.copy()
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts.ravel(), kind="stable")[: len(stated)]
    if [n for _, _, n in stated] != counts.flat[most].tolist() or (not stated and counts.any()):
        return False
    classes = [each for position in most for each in divmod(int(position), len(counts))]
    named = [name for true, predicted, _ in stated for name in (true, predicted)]
    return len(set(zip(classes, named, strict=True))) == len(set(classes))


def _worst(record: Record, columns: dict[str, np.ndarray]) -> Iterator[str]:
    """Examples that are listed as wrong and are not."""
    correct = next(iter(columns.values()), np.empty(0))
    if any(position >= len(correct) or correct[position] != 0 for position in record.worst):
        yield "it lists examples as its worst errors that are no errors"


def _conformance(record: Record) -> Iterator[str]:
    """Items that are left out, and those that are stated to hold and that the job and the data say do not."""
    metric = next(iter(record.metrics.values()), None)
    if metric is None or record.data is None:
        return
    trained_on = record.backbone.trained_on if record.backbone else None
    judged = {
        check.item: check for check in conformance(Evidence(record.job, record.data, metric, trained_on))
    }
    stated = {check.item: check for check in record.conformance}
    for item in ITEMS:
        own = judged[item]
        if item not in stated:
            yield f"it does not state whether {item!r} holds"
        elif item not in NOT_RECOMPUTED and stated[item].ok is True and own.ok is not True:
            yield f"it states that {item!r} holds; its job and data say: {own.reason}"


def summary(records: Sequence[Record]) -> str:
    """What was checked of these records, for the terminal."""
    scored = [record for record in records if record.status == "ok" and record.data]
    sizes = [(known_size(record.job), record.data.n_test) for record in scored if record.data]
    right = sum(known == stated for known, stated in sizes)
    unknown = sum(known is None for known, _ in sizes)
    return (
        f"checked for {len(records)} records: SHA-256 and key, scores and intervals from predictions, correctness from "
        "labels, confusion, each example once, labels of equal test sets, conformance from job and data\n"
        f"checked for {right} of {len(sizes)} scores: the number of test examples is the task's; not known for {unknown}; "
        f"other for {len(sizes) - right - unknown}, whose data state how they depart from the reference"
    )
