"""Means over test images and seeds with intervals and p-values, and Holm's correction.

Images and seeds are crossed: every seed is scored on the same images. A table (S, N) holds y[s, i], by seed and image: 1
correct, 0 wrong, or differences of these between two backbones; where images belong together, by seed and cluster
(vitbench/core/clusters.py). In y[s, i] = mean + seed[s] + image[i] + rest[s, i] all but
the mean is random, and the variance of the table's mean is estimated by

    V_images + V_seeds - V_rest

from the mean squares of the two-way layout without replication (Searle, Casella and McCulloch, Variance Components, 1992,
ch. 4). Its two parts, V_images - V_rest with many degrees of freedom and V_seeds with few, make an interval together by
squaring and adding the intervals that each would give alone (Howe, JASA 69, 1974; with Satterthwaite's t alone, three seeds
cover 0.92). Why both matter: Miller, arXiv 2411.00640 (images), and Bouthillier et al., arXiv 2103.03098 (seeds). What the
intervals cover is simulated in tests/report/test_coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from vitbench.core.wilson import wilson_of

LEVEL = 0.95
MOST_FREEDOM = 1e6  # Student's t is the normal distribution by then
SMALLEST_TAIL = (
    -100.0
)  # logarithm of half the smallest p-value, 1e-43; scipy's stdtrit fails at much smaller ones
Z = float(ndtri((1 + LEVEL) / 2))

Table = NDArray[np.float64]  # (S, N)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """An estimate of which no interval is known."""

    value: float
    low: None = None
    high: None = None


@dataclass(frozen=True)
class Estimate:
    """A mean, and the variances that other images and other seeds give it.

    `image_noise` and `seed_noise` say how well these are known: the sum of variance² / degrees of freedom over their parts,
    by Satterthwaite (Biometrics Bulletin 2, 1946).
    """

    mean: float
    images: float
    image_noise: float = 0.0
    seeds: float = 0.0
    seed_noise: float = 0.0

    @property
    def variance(self) -> float:
        """The variance of the mean."""
        return self.images + self.seeds

    @property
    def parts(self) -> list[float]:
        """The variances and what is known of them, to four digits, without zeros at the end: for the scripts of the page."""
        parts = [self.images, self.image_noise, self.seeds, self.seed_noise]
        while len(parts) > 1 and not parts[-1]:
            parts.pop()
        return [float(f"{part:.4g}") for part in parts]

    def squared_reach(self, tail: float) -> float:
        """The square of how far an interval reaches to each side, with this probability beyond it there."""
        image_t = stdtrit(_freedom(self.images, self.image_noise), tail)
        seed_t = stdtrit(_freedom(self.seeds, self.seed_noise), tail)
        return float(image_t) ** 2 * self.images + float(seed_t) ** 2 * self.seeds

    @property
    def interval(self) -> Interval:
        """The interval around the mean."""
        reach = self.squared_reach((1 - LEVEL) / 2) ** 0.5
        return Interval(self.mean, self.mean - reach, self.mean + reach)

    @property
    def p(self) -> float:
        """The two-sided p-value for a mean of zero, by the same method: below 0.05 exactly where the interval excludes zero."""
        from scipy.optimize import brentq

        if self.mean == 0:
            return 1.0
        excess = lambda tail: self.squared_reach(float(np.exp(tail))) - self.mean**2  # noqa: E731
        least = SMALLEST_TAIL
        return 2 * float(np.exp(brentq(excess, least, np.log(0.5)) if excess(least) > 0 else least))


def _freedom(variance: float, noise: float) -> float:
    """Degrees of freedom of a variance, at least one."""
    squared = variance**2
    return min(max(squared / noise, 1.0), MOST_FREEDOM) if noise > 0 and squared > 0 else MOST_FREEDOM


def crossed(table: Table) -> Estimate:
    """The mean of a table (S, N) with its variance."""
    return _of_table(table).estimate(float(table.mean()))


def _of_table(table: Table) -> _Components:
    values = table.astype(np.float64, copy=False)
    by_image, by_seed = values.mean(0), values.mean(1)
    between_images = len(table) * float(np.square(by_image - by_seed.mean()).sum())
    return _components(by_seed, between_images, float(np.square(values).sum()), table.shape[1])


def of_squares(by_seed: Table, between_images: float, squares: float, n: int) -> Estimate:
    """The estimate from the means of each seed (S,), the sum of squares between images, and the sum of all squared values."""
    return _components(by_seed, between_images, squares, n).estimate(float(by_seed.mean()))


@dataclass(frozen=True)
class _Components:
    """Variances of a mean over n images and some seeds: V_images, V_seeds and V_rest; the latter two are 0 with one seed."""

    images: float
    apart: float
    rest: float
    seeds: int
    n: int

    def estimate(self, mean: float, more_images: float = 0.0) -> Estimate:
        """The estimate around a mean; `more_images` is added to V_images."""
        images = self.images + more_images
        free = max(self.n - 1, 1)
        noise = images**2 / free + self.rest**2 / max((self.seeds - 1) * free, 1)
        seed_noise = self.apart**2 / max(self.seeds - 1, 1)
        return Estimate(mean, max(images - self.rest, 0.0), noise, self.apart, seed_noise)


def _components(by_seed: Table, between_images: float, squares: float, n: int) -> _Components:
    seeds, mean = len(by_seed), float(by_seed.mean())
    cells = seeds * n
    images = between_images / max(n - 1, 1) / cells
    if seeds == 1:
        return _Components(images, 0.0, 0.0, 1, n)
    between_seeds = n * float(np.square(by_seed - mean).sum())
    rest = max(squares - cells * mean**2 - between_images - between_seeds, 0.0) / cells
    rest /= max((seeds - 1) * (n - 1), 1)
    return _Components(images, between_seeds / (seeds - 1) / cells, rest, seeds, n)


def of_scores(scores: Sequence[float], image_variance: float) -> Estimate:
    """The mean of the scores of several seeds where it is not known which images each got right.

    What seeds add cannot be separated from the rest then, and some of the images' variance counts twice: intervals cover at
    least what they state.
    """
    mean, seeds = float(np.mean(scores)), len(scores)
    if seeds == 1:
        return Estimate(mean, image_variance)
    apart = float(np.var(scores, ddof=1)) / seeds
    return Estimate(mean, image_variance, 0.0, apart, apart**2 / (seeds - 1))


def difference(first: Table, second: Table, *, paired: bool) -> Estimate:
    """The mean of second - first on the same images; seeds are compared one by one if they are paired.

    Two images are added, one for each side, without which an interval is too short where few images differ. For one seed
    this is Bonett and Price's adjusted Wald interval for paired proportions (J. Educ. Behav. Stat. 37, 2012). With several,
    the two images differ by as much as those that differ do.

    Args:
        first: (S, N).
        second: (T, N), on the same images; T = S if seeds are paired.
        paired: the seeds have something in common, such as the training images that they draw.
    """
    gaps = second.mean(0) - first.mean(0)
    differing = gaps[gaps != 0]
    size = float(np.sqrt(np.mean(differing**2))) if differing.size else 1.0
    images = crossed(np.concatenate([gaps, [size, -size]])[None])
    parts = [_of_table(second - first)] if paired else [_of_table(first), _of_table(second)]
    seeds = combined([part.estimate(0.0) for part in parts], [1.0] * len(parts))
    pure = max(images.images - math.fsum(part.rest for part in parts), 0.0)
    return replace(seeds, mean=images.mean, images=pure, image_noise=images.image_noise)


def fraction_interval(estimate: Estimate, n: int, clusters: int | None = None) -> Interval:
    """Wilson's interval of a mean of n images' outcomes, with the number of images that would give its variance.

    If images belong together in so many clusters and the variance is 0, each cluster counts as one image.

    Inside [0, 1], and sensible near both ends (Dean and Pagano, J. Surv. Stat. Methodol. 3, 2015, for clustered samples).
    """
    mean = min(max(estimate.mean, 0.0), 1.0)
    alone = mean * (1 - mean) / max(n - 1, 1)
    variance = estimate.variance
    effective = n * alone / variance if variance > 0 and alone > 0 else float(clusters or n)
    z = (estimate.squared_reach((1 - LEVEL) / 2) / variance) ** 0.5 if variance > 0 else Z
    low, high = wilson_of(mean, z, effective)
    return Interval(estimate.mean, max(0.0, min(low, mean)), min(1.0, max(high, mean)))


def combined(estimates: Iterable[Estimate], weights: Iterable[float]) -> Estimate:
    """The weighted sum of independent estimates, such as a mean over tasks; tasks are fixed, not drawn."""
    pairs = list(zip(estimates, weights, strict=True))
    return Estimate(
        math.fsum(weight * each.mean for each, weight in pairs),
        math.fsum(weight**2 * each.images for each, weight in pairs),
        math.fsum(weight**4 * each.image_noise for each, weight in pairs),
        math.fsum(weight**2 * each.seeds for each, weight in pairs),
        math.fsum(weight**4 * each.seed_noise for each, weight in pairs),
    )


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Their mean with equal weights."""
    return combined(estimates, [1 / len(estimates)] * len(estimates))


def inside(interval: Interval) -> Interval:
    """The part of an interval in [0, 1]."""
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for multiple tests by Holm's step-down procedure, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
