"""What a submission's records state, recomputed from their predictions, jobs and data: nothing handed in is believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitbench.core.conformance import ITEMS, Evidence, conformance
from vitbench.core.files import digest_bytes
from vitbench.core.record import Record
from vitbench.core.wilson import wilson
from vitbench.store.predictions import read_predictions

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6  # of recomputed fractions, which are stored in float64
# What cannot be seen from a record: how pixels were normalised, and that selection was not on test.
NOT_RECOMPUTED = ("pixels as the weights expect", "selection not on test")
NOT_CHECKED = (
    "not checked: whether predictions are the network's own. A SHA-256 is no signature: predictions rewritten together with "
    "everything else cannot be told from honest ones without running the jobs again"
)


@dataclass
class Labels:
    """The labels of every test set seen so far, by its fingerprint: all records of one test set must have the same."""

    seen: dict[str, tuple[str, str]] = field(default_factory=dict)

    def fault(self, record: Record, rows: pd.DataFrame) -> Iterator[str]:
        """A text if these labels are not those of an earlier record of the same test set."""
        test = record.data.fingerprints.get("test", "") if record.data else ""
        ordered = rows.sort_values("index")
        parts = (ordered[name].to_numpy(dtype=np.int64).tobytes() for name in ("index", "label"))
        digest = digest_bytes(*parts)
        known, key = self.seen.setdefault(test, (digest, record.key))
        if test and known != digest:
            yield f"its test labels differ from those of {key[:8]}, which has the same test images"


def faults(record: Record, table: bytes, labels: Labels) -> Iterator[str]:
    """A text for everything that a record states and its predictions, job or data do not give."""
    if record.data is None:
        yield "the number of test examples is missing"
        return
    try:
        rows = read_predictions(table, record.data.n_test)
        columns = {name: rows[f"{name}_correct"].to_numpy(dtype=float) for name in record.metrics}
        right = rows["prediction"].to_numpy() == rows["label"].to_numpy()
        found = [*_rows(rows, columns, right), *_scores(record, columns), *_confusion(record, rows)]
        found = found or list(labels.fault(record, rows))
    except Exception as error:  # noqa: BLE001  a stranger's file may raise anything
        yield f"its predictions are not readable: {type(error).__name__}: {error}"
        return
    yield from found
    yield from _conformance(record)


def _rows(rows: pd.DataFrame, columns: dict[str, np.ndarray], right: np.ndarray) -> Iterator[str]:
    if not rows["index"].is_unique:
        yield "test examples are counted more than once"
    if not columns:
        yield "it has no metric"
    for name, values in columns.items():
        if not np.isin(values[~np.isnan(values)], (0, 1)).all():
            yield f"{name}_correct has values other than 0, 1 and not counted"
    if "top1" in columns and not (columns["top1"] == right).all():
        yield "top1_correct differs from prediction == label"


def _scores(record: Record, columns: dict[str, np.ndarray]) -> Iterator[str]:
    """Every metric and interval that differs from what the predictions give."""
    for name, metric in record.metrics.items():
        counted = columns[name][~np.isnan(columns[name])]
        n, hits = len(counted), int(counted.sum())
        low, high = wilson(hits, n) if n else (0.0, 0.0)
        if n != metric.n or not n or abs(hits / n - metric.value) > TOLERANCE:
            recomputed = f"{hits / n:.4f}" if n else "nothing"
            stated = f"{name} is stated as {metric.value:.4f} (n = {metric.n})"
            yield f"{stated}, but the predictions give {recomputed} (n = {n})"
        elif abs(low - metric.ci_low) > TOLERANCE or abs(high - metric.ci_high) > TOLERANCE:
            yield f"the interval of {name} is not the Wilson interval of the predictions"


def _confusion(record: Record, rows: pd.DataFrame) -> Iterator[str]:
    """A confusion matrix that the predictions do not give."""
    if record.confusion is None or not record.confusion.matrix:
        return
    count = len(record.confusion.classes)
    pairs = rows["label"].to_numpy(dtype=np.int64) * count + rows["prediction"].to_numpy(dtype=np.int64)
    found = np.bincount(pairs, minlength=count * count).reshape(count, count)
    if found.tolist() != [list(row) for row in record.confusion.matrix]:
        yield "its confusion matrix is not that of its predictions"


def _conformance(record: Record) -> Iterator[str]:
    """Items that are stated to hold and that the job and the data say do not."""
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
        if item not in NOT_RECOMPUTED and item in stated and stated[item].ok is True and own.ok is not True:
            yield f"it states that {item!r} holds; its job and data say: {own.reason}"


def summary(keys: Iterable[str]) -> str:
    """What was checked of these records, for the terminal."""
    return (
        f"checked for {len(list(keys))} records: SHA-256 and key, scores and intervals from predictions, correctness from "
        "labels, confusion, each example once, labels of equal test sets, conformance from job and data"
    )
