"""The metrics beside a task's own in a submission, recomputed from predictions, and from class scores if they are handed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitbench.core.class_scores import BINS, NO_PROBABILITIES, ece, mean_per_class, nll, reduce_scores
from vitbench.core.record import FurtherMetric, FurtherName, Record, ScoreKind
from vitbench.core.wilson import wilson
from vitbench.store.known_tasks import known_score_kind
from vitbench.store.scores import decode_scores

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6  # of recomputed values, which are stored in float64
EPSILON = 2.0**-11  # largest relative rounding error of a number in float16
SPACING = 2.0**-25  # half the distance of its smallest numbers

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]


def further_faults(record: Record, rows: pd.DataFrame, scores: bytes | None) -> Iterator[str]:
    """A text for everything that a record states of metrics beside its own and that cannot be.

    Raises:
        ValueError: the class scores are not readable.
    """
    known = known_score_kind(record.job)
    if record.further and known not in (None, record.score_kind):
        yield f"its class scores are stated as {record.score_kind}, those of {record.job.protocol.name} are {known}"
        return
    stated = {name: metric for name, metric in record.further.items() if metric.value is not None}
    main = rows[f"{next(iter(record.metrics))}_correct"].to_numpy(dtype=float)
    counted = ~np.isnan(main)
    label, predicted = (rows[name].to_numpy(dtype=np.int64) for name in ("label", "prediction"))
    right = (label == predicted)[counted]
    if stated and not np.array_equal(main[counted] == 1, right):
        yield f"it states {', '.join(stated)}, but its task is not scored by one label per image"
        return
    for name, metric in stated.items():
        if metric.n != len(right):
            yield f"{name} is stated over {metric.n:,} images, {len(right):,} count"
        else:
            yield from _FAULTS[name](record, metric, label[counted], right)
    if scores is not None and record.data is not None:
        values = decode_scores(scores, len(rows), record.data.num_classes)
        yield from _against_scores(record, values, predicted, label, counted)


def _per_class(record: Record, metric: FurtherMetric, label: Whole, right: Flags) -> Iterator[str]:
    found = mean_per_class(right, label, record.data.num_classes if record.data else 0)
    if not _near(metric, found) or metric.ci_low is not None or metric.ci_high is not None:
        yield f"mean_per_class is stated as {metric.value:.4f}, the predictions give {found.value:.4f} and no interval"


def _top5(record: Record, metric: FurtherMetric, label: Whole, right: Flags) -> Iterator[str]:
    n = len(label)
    hits = round((metric.value or 0) * n)
    if abs((metric.value or 0) - hits / n) > TOLERANCE or not right.sum() <= hits <= n:
        yield f"top5 is stated as {metric.value:.4f}, which no number of images from {right.sum():,} to {n:,} gives"
        return
    if next(iter(record.metrics.values())).clusters:  # it depends on which images are hits
        if not (metric.ci_low or 0) <= hits / n <= (metric.ci_high or 0):
            yield "top5 is outside of its interval"
        return
    for bound, own in zip(wilson(hits, n), (metric.ci_low, metric.ci_high), strict=True):
        if own is None or abs(bound - own) > TOLERANCE:
            yield "the interval of top5 is not the Wilson interval of its value"
            return


def _nll(record: Record, metric: FurtherMetric, _label: Whole, right: Flags) -> Iterator[str]:
    yield from _of_probabilities("nll", record, metric)
    # A label that is not predicted has at most half of the probability.
    if (metric.value or 0) < math.log(2) * (1 - right.mean()) - TOLERANCE:
        yield f"nll is stated as {metric.value:.4f}, less than its errors alone come to"


def _ece(record: Record, metric: FurtherMetric, _label: Whole, right: Flags) -> Iterator[str]:
    yield from _of_probabilities("ece", record, metric)
    if (metric.value or 0) > 1:
        yield f"ece is stated as {metric.value:.4f}, more than 1"
    if not metric.bins:  # a record of an older version
        return
    images, confidence, correct = np.array(metric.bins).T
    value = np.abs(correct - images * confidence).sum() / max(len(right), 1)
    if (images.sum(), correct.sum()) != (len(right), right.sum()) or abs(
        value - (metric.value or 0)
    ) > TOLERANCE:
        yield "the bins of ece do not add up to it"


def _of_probabilities(name: str, record: Record, metric: FurtherMetric) -> Iterator[str]:
    if record.score_kind in NO_PROBABILITIES:
        yield f"{name} is stated, but {NO_PROBABILITIES[record.score_kind]}"
    if metric.ci_low is not None or metric.ci_high is not None:
        yield f"{name} is stated with an interval, which is not computed"


_FAULTS: dict[FurtherName, Callable[[Record, FurtherMetric, Whole, Flags], Iterator[str]]] = {
    "top5": _top5, "mean_per_class": _per_class, "nll": _nll, "ece": _ece,
}  # fmt: skip


def _against_scores(
    record: Record, values: NDArray[np.float16], predicted: Whole, label: Whole, counted: Flags
) -> Iterator[str]:
    """What class scores, rounded to float16 in their order, do not allow."""
    if (np.take_along_axis(values, predicted[:, None], 1)[:, 0] != values.max(1)).any():
        yield "its predictions are not the classes with the highest scores"
        return
    values, label = values[counted], label[counted]
    right = label == predicted[counted]
    if (top5 := _stated(record, "top5")) is not None:
        least, most = _top5_bounds(values, label, record.score_kind)
        if not least - TOLERANCE <= top5 <= most + TOLERANCE:
            yield f"top5 is stated as {top5:.4f}, the class scores give {least:.4f} to {most:.4f}"
    images = reduce_scores(values, label, record.score_kind)
    likelihood, error = (
        nll(images.log_probability, record.score_kind),
        ece(images.confidence, right, record.score_kind),
    )
    room = EPSILON * (math.log(values.shape[1]) + 1)
    slack = {"nll": room + EPSILON * (likelihood.value or 0), "ece": room + _moving(images.confidence, room)}
    if record.score_kind == "votes":
        slack["nll"] += _of_small_votes(values, label)
    recomputed: dict[FurtherName, FurtherMetric] = {"nll": likelihood, "ece": error}
    for name, found in recomputed.items():
        own = _stated(record, name)
        if own is not None and found.value is not None and abs(own - found.value) > 2 * slack[name]:
            yield f"{name} is stated as {own:.4f}, the class scores give {found.value:.4f}"


def _stated(record: Record, name: FurtherName) -> float | None:
    metric = record.further.get(name)
    return metric.value if metric else None


def _top5_bounds(values: NDArray[np.float16], label: Whole, kind: ScoreKind) -> tuple[float, float]:
    """The least and the highest top-5 accuracy of scores that round to these: equal ones may have been in any order."""
    own = np.take_along_axis(values, label[:, None], 1)
    before, not_after = (values > own).sum(1), (values >= own).sum(1) - 1
    sure = (not_after < 5) & ((own[:, 0] > 0) if kind == "votes" else True)
    return float(sure.mean()), float((before < 5).mean())


def _of_small_votes(values: NDArray[np.float16], label: Whole) -> float:
    """How much the mean logarithm of labels' votes moves if votes near zero, which float16 spaces evenly, are rounded."""
    own = np.take_along_axis(values, label[:, None], 1).astype(float)
    return float((SPACING / np.maximum(own, SPACING)).mean())


def _moving(confidence: NDArray[np.float64], room: float) -> float:
    """The fraction of images whose confidence is so near to the edge of a bin that rounding may move it to the next, twice."""
    edges = np.arange(1, BINS) / BINS
    return 2 * float((np.abs(confidence[:, None] - edges) <= room).any(1).mean())


def _near(stated: FurtherMetric, found: FurtherMetric) -> bool:
    return abs((stated.value or 0) - (found.value or 0)) <= TOLERANCE


def further_summary(records: Sequence[Record], has_scores: Callable[[Record], bool]) -> str:
    """What was checked of the metrics beside a task's own, and what was not, for the terminal."""
    stated = [
        record for record in records if any(metric.value is not None for metric in record.further.values())
    ]
    by_scores = [r for r in stated if any(_stated(r, name) is not None for name in ("top5", "nll", "ece"))]
    given = sum(map(has_scores, by_scores))
    scored = sum(record.status == "ok" for record in records)
    needing = "top-5, NLL and calibration error"
    found = [
        f"checked for {len(stated)} of {scored} scores: mean per-class accuracy from predictions; not stated for the others"
    ]
    if given:
        found.append(f"checked for {given} scores: {needing} from class scores, to the precision of float16")
    if rest := len(by_scores) - given:
        found.append(
            f"not checked for {rest} scores: {needing}, but for their bounds: class scores were not handed in"
        )
    return "\n".join(found)
