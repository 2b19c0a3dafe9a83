"""Metrics of class scores (N, C) beside a task's own: top-5, mean per-class accuracy, NLL, calibration error, in float64.

Definitions and rules for ties, classes without images and probabilities of zero: docs/protocols.md#further-metrics. Scores are
reduced to three numbers per image as they come, block by block; no metric depends on how they were divided into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitbench.core.clusters import score_interval
from vitbench.core.record import FurtherMetric, FurtherName, ScoreKind

if TYPE_CHECKING:
    from collections.abc import Iterable

BINS = 15  # equal-width bins of confidence (Guo et al., arXiv 1706.04599, sec. 5)
TOP = 5
MINUS_INFINITY = (
    -1e29
)  # a logit as low as this stands for minus infinity: of a class that no example was fitted to
ELEMENTS_PER_BLOCK = 2**19  # of scores in float64: 4 MB, which stays in a processor's caches
NO_PROBABILITIES: dict[ScoreKind, str] = {
    "regression": "the scores are those of a regression to targets of -1 and 1, not probabilities",
    "unknown": "the protocol does not state whether its scores are logits or votes",
}

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ImageScores:
    """What metrics need of each image's class scores, all (N,).

    `rank` is the number of classes that come before the label. `log_probability` is that of the label and `confidence` the
    highest probability; both are NaN if the scores are not probabilities.
    """

    rank: Whole
    log_probability: Floats
    confidence: Floats

    def take(self, chosen: Flags) -> ImageScores:
        """Those of some of the images, chosen by flags (N,)."""
        return ImageScores(self.rank[chosen], self.log_probability[chosen], self.confidence[chosen])

    @classmethod
    def joined(cls, parts: Iterable[ImageScores]) -> ImageScores:
        """Those of successive images."""
        rows = [(part.rank, part.log_probability, part.confidence) for part in parts]
        return cls(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def reduce_scores(scores: NDArray[np.floating], labels: Whole, kind: ScoreKind) -> ImageScores:
    """Reduce class scores (N, C) with labels (N,) to what metrics need of them.

    Of equal scores the class with the lower number comes first, as in argmax; a class without a vote comes last.
    """
    rows = max(1, ELEMENTS_PER_BLOCK // max(scores.shape[1], 1))
    starts = range(0, max(len(labels), 1), rows)
    return ImageScores.joined(_reduced(scores[i : i + rows], labels[i : i + rows], kind) for i in starts)


def _reduced(scores: NDArray[np.floating], labels: Whole, kind: ScoreKind) -> ImageScores:
    values = np.ascontiguousarray(scores, dtype=np.float64)
    own = np.take_along_axis(values, labels[:, None], axis=1)
    rank = (values > own).sum(1)
    tied = np.flatnonzero((values == own).sum(1) > 1)
    rank[tied] += ((values[tied] == own[tied]) & (np.arange(values.shape[1]) < labels[tied, None])).sum(1)
    own = own[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "logits":
            highest = values.max(1)
            total = np.exp(values - highest[:, None]).sum(1)
            log_probability = np.where(own > MINUS_INFINITY, own - highest - np.log(total), -np.inf)
            return ImageScores(rank, log_probability, 1 / total)
        if kind == "votes":
            total = np.where((values >= 0).all(1), values.sum(1), np.nan)
            rank[own <= 0] = values.shape[1]
            return ImageScores(rank, np.log(own / total), values.max(1) / total)
    unknown = np.full(len(labels), np.nan)
    return ImageScores(rank, unknown, unknown)


def to_keep(scores: NDArray[np.floating], kind: ScoreKind) -> NDArray[np.float16]:
    """Class scores (N, C) as they are kept, in float16; logits less the highest of their image, which changes no probability.

    So the numbers near the highest logit, which matter, are the most precise ones. Other scores beyond the range of float16 are
    kept as its largest numbers.
    """
    if kind == "logits":
        with np.errstate(over="ignore"):  # more than 65,504 below the highest: of probability zero
            return np.asarray(scores - scores.max(axis=1, keepdims=True), dtype=np.float16)
    bound = float(np.finfo(np.float16).max)
    return np.asarray(np.clip(scores, -bound, bound), dtype=np.float16)


def further_metrics(
    images: ImageScores,
    right: Flags,
    labels: Whole,
    num_classes: int,
    kind: ScoreKind,
    clusters: Whole | None = None,
) -> dict[FurtherName, FurtherMetric]:
    """The metrics beside top-1 of the images that count: reduced scores, whether each is predicted correctly, labels (N,)."""
    return {
        "top5": top5(images.rank, num_classes, clusters),
        "mean_per_class": mean_per_class(right, labels, num_classes),
        "nll": nll(images.log_probability, kind),
        "ece": ece(images.confidence, right, kind),
    }


def top5(rank: Whole, num_classes: int, clusters: Whole | None = None) -> FurtherMetric:
    """The fraction of images whose label is among the five highest scores, with its interval."""
    n = len(rank)
    if num_classes <= TOP:
        return FurtherMetric(n=n, note=f"of {num_classes} classes all would be among the first {TOP}")
    hit = rank < TOP
    low, high = score_interval(hit, clusters)
    return FurtherMetric(value=int(hit.sum()) / n, ci_low=low, ci_high=high, n=n)


def mean_per_class(right: Flags, labels: Whole, num_classes: int) -> FurtherMetric:
    """The mean over classes of the accuracy on each class's images; classes without images are left out."""
    images = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels[right], minlength=num_classes)
    present = images > 0
    left_out = num_classes - int(present.sum())
    note = f"{left_out:,} of {num_classes:,} classes have no test image and are left out" if left_out else ""
    return FurtherMetric(value=float(np.mean(hits[present] / images[present])), n=len(labels), note=note)


def nll(log_probability: Floats, kind: ScoreKind) -> FurtherMetric:
    """The mean negative logarithm of the label's probability, in nats; none if the probability of one is zero."""
    n = len(log_probability)
    if reason := _no_probabilities(log_probability, kind):
        return FurtherMetric(n=n, note=reason)
    if impossible := int(np.isneginf(log_probability).sum()):
        return FurtherMetric(
            n=n, note=f"infinite: the label has probability zero on {impossible:,} of {n:,} images"
        )
    return FurtherMetric(value=max(0.0, float(-log_probability.mean())), n=n)


def ece(confidence: Floats, right: Flags, kind: ScoreKind) -> FurtherMetric:
    """The expected calibration error: |accuracy - mean confidence| of each bin, weighted by its images.

    A bin holds the confidences above its lower edge up to its upper one. Bins without images are kept, too.
    """
    n = len(confidence)
    if reason := _no_probabilities(confidence, kind):
        return FurtherMetric(n=n, note=reason)
    edges = np.linspace(0, 1, BINS + 1)
    which = np.searchsorted(edges[1:-1], confidence, side="left")
    gaps = np.bincount(which, weights=right - confidence, minlength=BINS)
    images, correct = (np.bincount(own, minlength=BINS) for own in (which, which[right]))
    mean = np.bincount(which, weights=confidence, minlength=BINS) / np.maximum(images, 1)
    bins = tuple(zip(images.tolist(), np.minimum(mean, 1.0).tolist(), correct.tolist(), strict=True))
    return FurtherMetric(value=min(1.0, float(np.abs(gaps).sum() / n)), n=n, bins=bins)


def _no_probabilities(values: Floats, kind: ScoreKind) -> str:
    """Why there are no probabilities; '' if there are."""
    if kind in NO_PROBABILITIES:
        return NO_PROBABILITIES[kind]
    bad = int(np.isnan(values).sum())
    return f"the votes on {bad:,} of {len(values):,} images are negative or all zero" if bad else ""
