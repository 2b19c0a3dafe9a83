"""The facts of a finished job: the score with its interval, the confusion matrix, the worst errors, and the backbone."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from vitbench.api import Labels, Protocol, ScoreRule, Split
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.class_scores import further_metrics
from vitbench.core.clusters import count, score_interval
from vitbench.core.errors import Problem, VitbenchError, nearest
from vitbench.core.record import BackboneFacts, Confusion, FurtherMetric, FurtherName, Metric, ScoreKind
from vitbench.engine.answers import Answers

MATRIX_CLASSES = 12  # of more classes, only the most frequent confusions are kept
MISTAKES = 20
WORST = 24


def score(rule: ScoreRule, predictions: Labels, split: Split) -> Metric:
    """The fraction of counted examples that are correct, with its interval over images, or over clusters of them."""
    correct = rule.correct(predictions, split)
    counts = ~np.isnan(correct)
    hits, n = int(correct[counts].sum()), int(counts.sum())
    if n == 0:
        raise VitbenchError("the test split has no example that counts")
    clusters = None if split.clusters is None else split.clusters[counts]
    low, high = score_interval(correct[counts], clusters)
    return Metric(value=hits / n, ci_low=low, ci_high=high, n=n, clusters=count(clusters))


def further(
    rule: ScoreRule, answers: Answers, split: Split, num_classes: int, kind: ScoreKind
) -> dict[FurtherName, FurtherMetric]:
    """The metrics beside the task's own, of the examples that its main rule counts; none where labels are not its measure."""
    if not rule.by_label:
        note = f"the task is scored by {rule.name}, not by one label per image"
        return {name: FurtherMetric(n=0, note=note) for name in get_args(FurtherName)}
    counted = ~np.isnan(rule.correct(answers.predictions, split))
    labels = split.labels[counted]
    right = answers.predictions[counted] == labels
    clusters = None if split.clusters is None else split.clusters[counted]
    return further_metrics(answers.images.take(counted), right, labels, num_classes, kind, clusters)


def score_kind(protocol: Protocol) -> ScoreKind:
    """What a protocol says that its class scores are.

    Raises:
        VitbenchError: there is no such kind.
    """
    kinds: tuple[ScoreKind, ...] = get_args(ScoreKind)
    if protocol.score_kind not in kinds:
        what = (
            f"{type(protocol).__name__}.score_kind is {protocol.score_kind!r}: allowed are {', '.join(kinds)}"
        )
        raise VitbenchError(Problem(what, nearest=nearest(str(protocol.score_kind), kinds)))
    return protocol.score_kind


def backbone_facts(backbone: BuiltBackbone, weights_digest: str) -> BackboneFacts:
    """The backbone as it was evaluated."""
    origin = backbone.provenance
    return BackboneFacts(
        family=origin.family,
        weights=origin.weights,
        pretrain_data=origin.pretrain_data,
        source=origin.source,
        params=backbone.params,
        feature_dim=backbone.feature_dim,
        size_px=backbone.input.size_px,
        mean=backbone.input.mean,
        std=backbone.input.std,
        weights_digest=weights_digest,
        load=origin.load,
        trained_on=origin.trained_on,
        pretrain_tpu_v3_core_days=origin.pretrain_tpu_v3_core_days,
        pretrain_flops=origin.pretrain_flops,
        licence=origin.licence,
    )


def confusion(predictions: Labels, labels: Labels, names: tuple[str, ...]) -> Confusion:
    """The confusion matrix, or the most frequent confusions of many classes."""
    pairs = np.bincount(labels * len(names) + predictions, minlength=len(names) ** 2)
    counts = pairs.reshape(len(names), len(names))
    if len(names) <= MATRIX_CLASSES:
        return Confusion(classes=names, matrix=tuple(map(tuple, counts.tolist())))
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts.ravel(), kind="stable")[:MISTAKES]
    found = [(*divmod(int(position), len(names)), int(counts.flat[position])) for position in most]
    return Confusion(mistakes=tuple((names[true], names[predicted], n) for true, predicted, n in found if n))


def worst(margins: NDArray[np.float32], wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    """The positions of the most confident errors.

    `margins` (N,) are by how much the highest score of another class exceeds that of the label.
    """
    positions = np.flatnonzero(wrong)
    return tuple(positions[np.argsort(-margins[positions], kind="stable")][:WORST].tolist())
