"""What a record states of a finished job: the score with its interval, the backbone, and what keeps it from conforming."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from vitbench.api import Labels, Provenance, ScoreRule, Split
from vitbench.backbones.models.built import BuiltBackbone
from vitbench.errors import VitbenchError
from vitbench.records import BackboneFacts, Check, DataFacts, Job, Metric

CONFIDENCE = 0.95


def score(rule: ScoreRule, predictions: Labels, split: Split) -> Metric:
    """The share of counted examples that are right, with its Wilson interval."""
    correct = rule.correct(predictions, split)
    counted = correct[~np.isnan(correct)]
    hits, n = int(counted.sum()), len(counted)
    if n == 0:
        raise VitbenchError("the test split has no example that counts")
    low, high = wilson(hits, n)
    return Metric(value=hits / n, ci_low=low, ci_high=high, n=n)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927), inside [0, 1].

    scipy.stats has it too, and takes 0.8 s to import: a tenth of what a short run takes to start.
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    share, weight = hits / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    reach = z * (share * (1 - share) / n + weight / (4 * n)) ** 0.5 / (1 + weight)
    return (max(0.0, centre - reach) if hits else 0.0, min(1.0, centre + reach) if hits < n else 1.0)


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


def conformance(job: Job, facts: DataFacts, origin: Provenance) -> list[Check]:
    """The items that a number must meet to stand beside others.

    Selection on test is no item: a protocol is given nothing that leads there (`vitbench.data.veiled`).
    """
    skipped = f"{len(facts.skipped)} unreadable pictures left out" if facts.skipped else ""
    limited = f"each split limited to {job.limit} examples" if job.limit is not None else ""
    return [
        Check(item="all examples", ok=not limited, reason=limited),
        Check(item="every picture readable", ok=not skipped, reason=skipped),
        Check(
            item="weights have not seen this task's labels",
            ok=facts.dataset not in origin.trained_on or not facts.dataset,
            reason=f"the weights were trained on {facts.dataset}"
            if facts.dataset in origin.trained_on
            else "",
        ),
        Check(item="pixels as the weights expect", ok=not origin.pixel_warning, reason=origin.pixel_warning),
        Check(
            item="data as the reference has them", ok=not facts.departures, reason="; ".join(facts.departures)
        ),
    ]
