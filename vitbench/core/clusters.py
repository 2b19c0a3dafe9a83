"""Test images that belong together, such as both eyes of a patient: intervals are over clusters drawn anew, not over images.

Images of a cluster are right or wrong together more often than others, so that they say less than as many independent images
(Miller, arXiv 2411.00640, sec. 2.2; the variance is that of Liang and Zeger, Biometrika 73, 1986).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from vitbench.core.wilson import CONFIDENCE, wilson, wilson_of

Floats = NDArray[np.float64]


def by_cluster(table: NDArray[Any], clusters: NDArray[np.int64]) -> Floats:
    """One value per row and cluster (S, G) from values by row and image (S, N) and the cluster of each image (N,).

    Each row keeps its mean, and the variance of that mean over clusters is its variance when whole clusters are drawn: a value
    is the mean plus G/N times the cluster's sum of deviations from it.
    """
    _, which, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    means = table.mean(axis=1, dtype=np.float64, keepdims=True)
    sums = np.stack([np.bincount(which, weights=row, minlength=len(sizes)) for row in table])
    found: Floats = means + len(sizes) / len(clusters) * (sums - means * sizes)
    return found


def count(clusters: NDArray[np.int64] | None) -> int | None:
    """How many clusters there are; None if images do not belong together."""
    return None if clusters is None else len(np.unique(clusters))


def score_interval(correct: NDArray[Any], clusters: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """The interval of the mean of 0s and 1s (N,): Wilson's, with as many images as would give its variance over clusters.

    Where all images are right, or all wrong, nothing tells how much they depend on each other: each cluster counts as one.
    """
    n, mean = len(correct), float(np.mean(correct))
    if clusters is None:
        return wilson(round(mean * n), n)
    values = by_cluster(correct[None], clusters)[0]
    groups = len(values)
    if groups == 1:
        return 0.0, 1.0  # one cluster says nothing of others
    variance = float(values.var(ddof=1)) / groups
    t = float(stdtrit(groups - 1, (1 + CONFIDENCE) / 2))
    effective = mean * (1 - mean) * n / (n - 1) / variance if variance > 0 else float(groups)
    low, high = wilson_of(mean, t, effective)
    return (max(0.0, low) if mean > 0 else 0.0, min(1.0, high) if mean < 1 else 1.0)
