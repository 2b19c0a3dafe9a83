"""Ranks with confidence sets: which backbones are better than which, with images and seeds drawn again.

After Mogstad, Romano, Shaikh and Wilhelm (Review of Economic Studies 91, 2024; the R package csranks): backbone k is ranked
behind those that are significantly better, and ahead of those that are significantly worse, where the comparisons of k with
all others hold at once. Several tasks are compared by the mean over them, as fixed tasks; Demšar (JMLR 7, 2006) ranks within
each task instead, which asks whether a backbone is better on most tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from vitbench.report.statistics import LEVEL, MOST_FREEDOM, Estimate, of_squares

TINY = 1e-300
DRAWS = 2000  # of the largest difference; its 95 % quantile then has a standard error of about 0.02
MOST_STEPS = 10
Floats = NDArray[np.float64]
Outcomes = NDArray[np.uint8] | NDArray[np.float64]  # (S, N), or (S, G) by cluster


@dataclass(frozen=True)
class Column:
    """K backbones on one task: their estimates, the covariance (K, K) of their means through images, and its precision.

    `least` (K,) is what Bonett and Price's two images add to the variance of a difference, half of it each.
    """

    estimates: tuple[Estimate, ...]
    covariance: Floats
    least: Floats
    n: float


@dataclass(frozen=True)
class Ranks:
    """The rank of one backbone, 1 is best: by its mean, in its own 95 % set, and in sets that hold for all backbones at once.

    `first`: whether it may be the best. The sets of all that may contain the best with a probability of 95 %.
    """

    value: float
    low: int
    high: int
    low_at_once: int
    high_at_once: int
    first: bool


@dataclass(frozen=True)
class Place:
    """The rank of one backbone by its mean alone, where no interval is known."""

    value: float
    low: None = None
    high: None = None
    low_at_once: None = None
    high_at_once: None = None
    first: None = None


def column_of_tables(tables: Sequence[Outcomes]) -> Column:
    """A column from outcomes (S, N) on the same N images, 1 or 0, or their clusters; a table for each backbone."""
    n = tables[0].shape[1]
    centred = np.empty((len(tables), n), np.float32)
    estimates = []
    for row, table in zip(centred, tables, strict=True):
        by_seed = table.sum(1, dtype=np.float64) / n
        np.divide(table.sum(0, dtype=np.float32), len(table), out=row)
        row -= np.float32(by_seed.mean())
        between = len(table) * float(np.square(row).sum(dtype=np.float64))
        is_binary = table.dtype == np.uint8  # y² = y
        squares = float(by_seed.sum()) * n if is_binary else float(np.square(table).sum())
        estimates.append(of_squares(by_seed, between, squares, n))
    covariance = (centred @ centred.T).astype(np.float64) / max(n - 1, 1) / n
    least = np.array([1 / len(table) for table in tables]) / n**2
    return Column(tuple(estimates), covariance, least, n)


def column_of_estimates(estimates: Sequence[Estimate], n: float) -> Column:
    """A column where it is not known which images each backbone got right: errors are taken for independent.

    Backbones mostly fail on the same images, so that differences are known better than this says.
    """
    least = np.full(len(estimates), 1 / n**2)
    return Column(tuple(estimates), np.diag([each.images for each in estimates]), least, n)


def ranked(columns: Sequence[Column], exact: Sequence[Fraction], seed: int = 0) -> list[Ranks]:
    """The ranks of backbones by their means over these tasks.

    Args:
        columns: of each task, with the same backbones in the same order.
        exact: (K,) the means as fractions: equal counts of correct images are ties, whatever their floats.
        seed: of the draws.
    """
    count = len(exact)
    if count == 1:
        return [Ranks(1.0, 1, 1, 1, 1, True)]
    pairs = _pairs(columns)
    means = np.array([float(mean) for mean in exact])
    errors = np.sqrt(np.maximum(pairs.own[0], TINY)).astype(np.float32)
    scores = _deviates(means, *pairs.own)
    careful = _careful(scores, _deviates(means, *pairs.pooled))
    drawn = _drawn(pairs.covariance, seed)
    chosen = [_one(k, scores, drawn, errors) for k in range(count)]
    at_once = np.quantile(np.max([largest for *_, largest in chosen], axis=0), LEVEL)
    placed = places(exact)
    return [
        Ranks(
            place, 1 + better, count - worse,
            1 + int((careful[k] > at_once).sum()), count - int((careful[k] < -at_once).sum()), first,
        )
        for k, (place, (better, worse, first, _)) in enumerate(zip(placed, chosen, strict=True))
    ]  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """Of means over tasks: their covariance (K, K), and of all differences between two of them the variance and its noise.

    In `pooled`, all backbones share what seeds add.
    """

    covariance: Floats
    own: tuple[Floats, Floats]
    pooled: tuple[Floats, Floats]


def may_be_first(columns: Sequence[Column], exact: Sequence[Fraction], seed: int = 0) -> list[bool]:
    """Of each backbone whether it may be the best: `Ranks.first` without the rest."""
    pairs = _pairs(columns)
    scores = _deviates(np.array([float(mean) for mean in exact]), *pairs.own)
    np.fill_diagonal(scores, -np.inf)
    behind = scores.max(1)
    # Clear without draws: beaten even if all comparisons were independent, or ahead of all.
    bonferroni = -float(ndtri((1 - LEVEL) / max(len(exact) - 1, 1)))
    found = behind <= 0
    unclear = np.flatnonzero(~found & (behind <= bonferroni))
    if unclear.size:
        errors = np.sqrt(np.maximum(pairs.own[0], TINY)).astype(np.float32)
        drawn = _drawn(pairs.covariance, seed)
        for k in unclear:
            others = np.arange(len(scores)) != k
            deviates = (drawn[:, others] - drawn[:, [k]]) / errors[k, others]
            found[k] = behind[k] <= np.quantile(deviates.max(1), LEVEL)
    return [bool(each) for each in found]


def _pairs(columns: Sequence[Column]) -> _Pairs:
    weight = 1 / len(columns)
    covariance = variance = noise = pooled = pooled_noise = np.zeros_like(columns[0].covariance)
    for column in columns:
        own = np.diag(column.covariance)
        # The variance through images contains what differs between seeds, which the seeds' contains too.
        rest = np.maximum(own - np.array([each.images for each in column.estimates]), 0)
        seeds = np.maximum(np.array([each.seeds for each in column.estimates]) - rest, 0)
        unsure = np.array([each.seed_noise for each in column.estimates])
        apart = np.maximum(own[:, None] + own[None] - 2 * column.covariance, 0)
        images = apart + column.least[:, None] + column.least[None]
        image_noise = images**2 / max(column.n - 1, 1)
        covariance = covariance + weight**2 * (column.covariance + np.diag(seeds))
        variance = variance + weight**2 * (images + seeds[:, None] + seeds[None])
        noise = noise + weight**4 * (image_noise + unsure[:, None] + unsure[None])
        pooled = pooled + weight**2 * (images + 2 * seeds.mean())
        pooled_noise = pooled_noise + weight**4 * (image_noise + 4 * unsure.mean() / len(unsure))
    return _Pairs(covariance, (variance, noise), (pooled, pooled_noise))


def _deviates(means: Floats, variance: Floats, noise: Floats) -> Floats:
    """By how many standard errors [k, j] backbone j is better than k: Student's t as the equally probable normal deviate."""
    t = (means[None] - means[:, None]) / np.sqrt(np.maximum(variance, TINY))
    freedom = np.clip(variance**2 / np.maximum(noise, TINY), 1.0, MOST_FREEDOM)
    tails = np.maximum(stdtr(freedom, -np.abs(t)), TINY)
    deviates: Floats = -np.sign(t) * ndtri(tails)
    return deviates


def _careful(own: Floats, pooled: Floats) -> Floats:
    """The smaller of two deviates of each pair.

    Among many backbones with few seeds, some have seeds that agree by chance: where all are compared at once, what seeds add
    to the variance of a difference must not be taken for less than its mean over all backbones either.
    """
    return np.where(np.abs(pooled) < np.abs(own), pooled, own)


def _drawn(covariance: Floats, seed: int) -> NDArray[np.float32]:
    """Errors (draws, K) of the means, with their covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = np.random.default_rng(seed).standard_normal((DRAWS, len(covariance)))
    drawn: NDArray[np.float32] = (normal @ root.T).astype(np.float32)
    return drawn


def _one(
    k: int, scores: Floats, drawn: NDArray[np.float32], errors: NDArray[np.float32]
) -> tuple[int, int, bool, NDArray[np.float32]]:
    """How many are significantly better and worse than k, whether k may be the best, and the largest deviates of all draws.

    Comparisons that are clear are set aside, and the others are made again among themselves (Romano and Wolf's step-down).
    """
    others = np.arange(len(scores)) != k
    deviates = (drawn[:, others] - drawn[:, [k]]) / errors[k, others]
    own = scores[k, others]
    sizes = np.abs(deviates)
    clear = _clear(np.abs(own), sizes)
    beaten = _clear(own, deviates).any()
    largest: NDArray[np.float32] = sizes.max(1)
    return int((clear & (own > 0)).sum()), int((clear & (own < 0)).sum()), not beaten, largest


def _clear(own: Floats, deviates: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of these comparisons are significant, all at once."""
    clear = np.zeros(len(own), bool)
    for _ in range(MOST_STEPS):
        bound = np.quantile(deviates[:, ~clear].max(1), LEVEL)
        found = own > bound
        if not (found & ~clear).any():
            break
        clear |= found
        if clear.all():
            break
    return clear


def places(exact: Sequence[Fraction]) -> list[float]:
    """Ranks by the mean, highest first; ties share the mean of their ranks."""
    ordered = sorted(exact, reverse=True)
    first = {mean: i for i, mean in reversed(list(enumerate(ordered)))}
    last = {mean: i for i, mean in enumerate(ordered)}
    return [(first[mean] + last[mean]) / 2 + 1 for mean in exact]
