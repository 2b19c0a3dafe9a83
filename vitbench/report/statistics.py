"""Statistics for comparisons: bootstrap intervals over test images and tasks, McNemar's test, Holm's correction.

Bootstraps are exact in distribution and fast: images with the same outcome for all compared networks are drawn as counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95
BLOCK = 250

Correct = NDArray[np.float64]  # (N,) per image: correct 1, wrong 0, or the fraction of seeds that are correct


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_means(columns: Correct, generator: np.random.Generator, draws: int = DRAWS) -> Correct:
    """Means (draws, K) of columns (N, K) over images drawn with replacement, the same images for every column."""
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    total = int(counts.sum())
    fractions = counts / total
    parts = [  # in blocks: 10,000 draws of 20,000 different rows would take gigabytes
        generator.multinomial(total, fractions, size=min(BLOCK, draws - first)) @ rows / total
        for first in range(0, draws, BLOCK)
    ]
    means: Correct = np.concatenate(parts)
    return means


def difference(a: Correct, b: Correct, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Mean of a - b over the same images, with its percentile interval."""
    gaps = (a - b)[:, None]
    low, high = _percentiles(bootstrap_means(gaps, np.random.default_rng(seed), draws)[:, 0])
    return Interval(float(gaps.mean()), low, high)


def _percentiles(values: Correct) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value for equal error rates: a binomial test on the images where two classifiers disagree."""
    from scipy.special import bdtr

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for multiple tests by Holm's step-down procedure, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def rank_intervals(
    correct: Mapping[str, Mapping[str, Correct]], seed: int = 0, draws: int = DRAWS
) -> dict[str, Interval]:
    """Ranks by the mean over tasks (1 is best), with bootstrap intervals over tasks and images.

    `correct[backbone][task]` is (N,), the same images for every backbone. Ties share the mean of their ranks.

    Raises:
        ValueError: a backbone lacks a task of another.
    """
    names = list(correct)
    tasks = list(correct[names[0]]) if names else []
    if any(set(correct[name]) != set(tasks) for name in names):
        raise ValueError("ranks need every backbone on every task: results are missing")
    generator = np.random.default_rng(seed)
    tables = [np.column_stack([correct[name][task] for name in names]) for task in tasks]
    means = np.stack([bootstrap_means(table, generator, draws) for table in tables])  # (T, draws, K)
    chosen = generator.integers(len(tasks), size=(len(tasks), draws))
    overall = np.take_along_axis(means, chosen[:, :, None], axis=0).mean(0)
    ranks = _ranks(overall)
    now = _ranks(np.stack([table.mean(0) for table in tables]).mean(0)[None])[0]
    bounds = [_percentiles(ranks[:, i]) for i in range(len(names))]
    return {name: Interval(float(now[i]), *bounds[i]) for i, name in enumerate(names)}


def _ranks(scores: Correct) -> Correct:
    """Ranks (M, K) of scores (M, K), highest first; ties share their mean rank."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(2)
    ranks: Correct = above + (equal + 1) / 2
    return ranks
