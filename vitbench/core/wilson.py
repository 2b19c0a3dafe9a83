"""Wilson's score interval of a fraction."""

from __future__ import annotations

from scipy.special import ndtri

CONFIDENCE = 0.95


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a fraction (E. B. Wilson, JASA 22, 1927), inside [0, 1].

    scipy.stats has it too but takes 0.8 s to import, a tenth of the start-up of a short run.
    """
    low, high = wilson_of(hits / n, float(ndtri((1 + CONFIDENCE) / 2)), n)
    return (max(0.0, low) if hits else 0.0, min(1.0, high) if hits < n else 1.0)


def wilson_of(mean: float, z: float, n: float) -> tuple[float, float]:
    """The same around a mean of n independent images, n a fraction too, with a normal deviate or Student's t."""
    weight = z * z / n
    centre = (mean + weight / 2) / (1 + weight)
    reach = z * (mean * (1 - mean) / n + weight / (4 * n)) ** 0.5 / (1 + weight)
    return centre - reach, centre + reach
