"""Scores of a submission recomputed from predictions, and those of further test sets with all that is stated of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitbench.core.clusters import count, score_interval
from vitbench.core.record import Metric, Record
from vitbench.store.predictions import CLUSTER, read_predictions
from vitbench.store.submission_metrics import TOLERANCE


def score_faults(
    name: str, metric: Metric, correct: NDArray[np.float64], clusters: NDArray[np.int64] | None
) -> Iterator[str]:
    """A text if a metric or its interval differs from what predictions give: 1 right, 0 wrong, NaN not counted, all (N,)."""
    counts = ~np.isnan(correct)
    counted, together = correct[counts], None if clusters is None else clusters[counts]
    n, hits = len(counted), int(counted.sum())
    low, high = score_interval(counted, together) if n else (0.0, 0.0)
    if n != metric.n or not n or abs(hits / n - metric.value) > TOLERANCE:
        recomputed = f"{hits / n:.4f}" if n else "nothing"
        stated = f"{name} is stated as {metric.value:.4f} (n = {metric.n})"
        yield f"{stated}, but the predictions give {recomputed} (n = {n})"
    elif abs(low - metric.ci_low) > TOLERANCE or abs(high - metric.ci_high) > TOLERANCE:
        yield f"the interval of {name} is not the Wilson interval of the predictions"
    elif metric.clusters != count(together):
        yield f"{name} is stated over {metric.clusters} clusters of images, its predictions have {count(together)}"


def faults_of_test_set(record: Record, name: str, table: bytes) -> Iterator[str]:
    """A text for everything that a record states of a further test set and that its predictions do not give.

    Raises:
        ValueError: they are not readable.
    """
    facts, metric = record.test_sets[name], record.metrics.get(name)
    if metric is None:
        yield f"the test set {name} has no score"
        return
    rows = read_predictions(table, facts.n)
    parts = rows["part"].astype(str).to_numpy() if "part" in rows else np.full(len(rows), "")
    correct = np.asarray(rows["prediction"] == rows["label"], dtype=np.float64)
    if not np.array_equal(rows[f"{name}_correct"].to_numpy(dtype=float), correct):
        yield f"{name}_correct differs from prediction == label"
    if rows.assign(part=parts).duplicated(["part", "index"]).any():
        yield f"images of {name} are counted more than once"
    if rows["prediction"].nunique() > facts.classes or rows["label"].nunique() > facts.classes:
        yield f"{name} is stated to have {facts.classes} classes, its predictions have more"
    if facts.parts and set(facts.parts) != set(parts):
        yield f"the parts of {name} are not those of its predictions"
        return
    clusters = rows[CLUSTER].to_numpy(dtype=np.int64) if CLUSTER in rows else None
    yield from score_faults(name, metric, correct, clusters)
    for part, stated in facts.parts.items():
        yield from score_faults(f"{name} {part}", stated, correct[parts == part], None)
