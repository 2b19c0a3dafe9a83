"""The metric of a board: one rule for boards, comparisons, ranks and exports. And which results depend on a seed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from vitbench.core.job import Job, shots_of
from vitbench.core.record import Metric, Record

# Protocols that draw nothing but the images of an N-shot budget (`depends_on_seed` of each, in vitbench/protocols).
NOTHING_RANDOM = ("knn", "ridge_probe", "logistic_probe")


def main_metric_name(record: Record) -> str | None:
    """The name of the score that boards show: the task's first metric, usually top-1 accuracy; None without any."""
    return next(iter(record.metrics), None)


def main_metric(record: Record) -> Metric | None:
    """The score that boards show."""
    name = main_metric_name(record)
    return None if name is None else record.metrics[name]


def is_seeded(job: Job) -> bool:
    """Whether another seed may give another result; taken for granted of protocols from elsewhere."""
    return job.protocol.name not in NOTHING_RANDOM or shots_of(job.budget) is not None


def draws_images(job: Job) -> bool:
    """Whether the seed draws the training images, which backbones with the same seed then share."""
    return shots_of(job.budget) is not None


def exact_mean(metrics: Sequence[Metric]) -> Fraction:
    """The mean of scores as a fraction, so that equal counts of correct images are equal."""
    found = [exact(metric) for metric in metrics]
    return sum(found, Fraction(0)) / len(found)


def exact(metric: Metric) -> Fraction:
    """A score as the fraction of its images that it counts; one that is no such fraction as its float."""
    hits = round(metric.value * metric.n)
    return Fraction(hits, metric.n) if hits / metric.n == metric.value else Fraction(metric.value)
