"""What a record states of a finished job: the score with its interval, its mistakes, the backbone, and the conformance list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitbench.api import Labels, Provenance, ScoreRule, Split
from vitbench.backbones.models.built import BuiltBackbone
from vitbench.data.budgets import TRAIN_1K, VAL_1K
from vitbench.errors import VitbenchError
from vitbench.facts import BackboneFacts, Confusion, DataFacts
from vitbench.intervals import wilson
from vitbench.records import NOT_LIMITED, READABLE, Check, Job, Metric, shots_of

MATRIX_CLASSES = 12  # a larger matrix is not read by anyone: its most frequent mistakes are
MISTAKES = 20
WORST = 24


def score(rule: ScoreRule, predictions: Labels, split: Split) -> Metric:
    """The share of counted examples that are right, with its Wilson interval."""
    correct = rule.correct(predictions, split)
    counted = correct[~np.isnan(correct)]
    hits, n = int(counted.sum()), len(counted)
    if n == 0:
        raise VitbenchError("the test split has no example that counts")
    low, high = wilson(hits, n)
    return Metric(value=hits / n, ci_low=low, ci_high=high, n=n)


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
        weights_loaded=origin.weights_loaded,
        weights_missing=origin.weights_missing,
        weights_unexpected=origin.weights_unexpected,
        trained_on=origin.trained_on,
        pretrain_tpu_v3_core_days=origin.pretrain_tpu_v3_core_days,
        licence=origin.licence,
    )


def confusion(predictions: Labels, labels: Labels, names: tuple[str, ...]) -> Confusion:
    """Which classes are taken for which."""
    pairs = np.bincount(labels * len(names) + predictions, minlength=len(names) ** 2)
    counts = pairs.reshape(len(names), len(names))
    if len(names) <= MATRIX_CLASSES:
        return Confusion(classes=names, matrix=tuple(map(tuple, counts.tolist())))
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts.ravel(), kind="stable")[:MISTAKES]
    found = [(*divmod(int(place), len(names)), int(counts.flat[place])) for place in most]
    return Confusion(mistakes=tuple((names[true], names[said], n) for true, said, n in found if n))


def worst(margins: NDArray[np.float32], wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    """Positions of the mistakes that were made most surely.

    `margins` (N,) are by how much the highest score of another class exceeds that of the label.
    """
    places = np.flatnonzero(wrong)
    return tuple(places[np.argsort(-margins[places], kind="stable")][:WORST].tolist())


@dataclass(frozen=True)
class Conformance:
    """What a number must meet to stand beside others, item by item."""

    job: Job
    facts: DataFacts
    origin: Provenance
    score: Metric

    def checks(self) -> tuple[Check, ...]:
        """Every item, with the reason where it does not hold."""
        facts, job = self.facts, self.job
        seen = bool(facts.dataset) and facts.dataset in self.origin.trained_on
        return (
            _item(
                NOT_LIMITED, f"each split limited to {job.limit} examples" if job.limit is not None else ""
            ),
            _item(READABLE, f"{len(facts.skipped)} unreadable pictures left out" if facts.skipped else ""),
            _item("exact N", self._not_exact()),
            _item("split", self._other_split()),
            _item("data as the reference has them", "; ".join(facts.departures)),
            _item("pixels as the weights expect", self.origin.pixel_warning),
            _item(
                "weights have not seen this task's labels",
                f"the weights were trained on {facts.dataset}" if seen else "",
            ),
            # A protocol is given nothing that leads to test (`vitbench.data.veiled`): the runner opens it, once, afterwards.
            _item("selection not on test", ""),
        )

    def _not_exact(self) -> str:
        n = self.score.n
        return "" if n == self.facts.n_test else f"{n} of {self.facts.n_test} test examples are counted"

    def _other_split(self) -> str:
        """Where a budget did not give as many examples as its name says."""
        facts, job = self.facts, self.job
        if job.limit is not None:
            return ""  # said by an item of its own
        if job.budget == "1k" and (facts.n_train, facts.n_val) != (TRAIN_1K, VAL_1K):
            return f"{facts.n_train} + {facts.n_val} examples in place of {TRAIN_1K} + {VAL_1K}"
        wanted = (shots_of(job.budget) or 0) * facts.num_classes
        if wanted and facts.n_train != wanted:
            return f"{facts.n_train} training examples in place of {wanted}: some classes have fewer"
        return ""


def _item(item: str, trouble: str) -> Check:
    return Check(item=item, ok=not trouble, reason=trouble)
