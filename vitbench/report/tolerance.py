"""How far a measured mean may be from a published value if nothing differs but chance.

Both are of the same test images, so that only seeds make them differ, and the rounding of the printed value. The spread over
seeds is pooled over the networks of the column, which rarely have more than three seeds each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from vitbench.report.statistics import LEVEL

# What a tolerance is from: seeds; a result without a seed; or nothing, because no spread is known.
Basis = Literal["seeds", "nothing random", "unknown"]
Verdict = Literal["within", "outside", "wide", "unknown"]
Statistic = Literal["mean", "median", "best"]

# Of results without a seed: what decoders, resizing and float32 may add (docs/protocols.md#published-values).
ALLOWANCE = 0.001
# A wider tolerance would take ViT-L/16 for ViT-H/14: in Table 2 of arXiv 2010.11929 they are at most 1.35 points apart.
WIDE = 0.015
# Variance of the median of n normal draws, in units of that of one draw; beyond, its limit pi / 2 / n.
_MEDIAN = {1: 1.0, 2: 0.5, 3: 0.4487, 4: 0.2982, 5: 0.2868}


@dataclass(frozen=True)
class Runs:
    """The mean of repeated runs, or another statistic of them."""

    value: float
    count: int
    statistic: Statistic = "mean"

    @property
    def share(self) -> float:
        """The variance of the statistic in units of that of one run."""
        if self.statistic == "median":
            return _MEDIAN.get(self.count, np.pi / 2 / self.count)
        return 1 / self.count


@dataclass(frozen=True)
class SeedSpread:
    """A standard deviation over seeds, and its degrees of freedom."""

    std: float
    freedom: int


@dataclass(frozen=True)
class Tolerance:
    """A tolerance as a fraction, None if none is known, and what it is from."""

    value: float | None
    basis: Basis


def pooled(cells: Iterable[Sequence[float]]) -> SeedSpread | None:
    """The standard deviation over seeds that these networks share; None if none has two seeds that differ."""
    several = [values for values in cells if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = math.fsum(float(np.var(values)) * len(values) for values in several)
    return SeedSpread((squares / freedom) ** 0.5, freedom) if squares > 0 else None


def statistic_of(text: str) -> Statistic:
    """The statistic that a source prints, by the first word of its note that names one; a mean if it says nothing."""
    names: dict[str, Statistic] = {
        "mean": "mean",
        "average": "mean",
        "median": "median",
        "best": "best",
        "max": "best",
    }
    found = re.search(r"\b(mean|average|median|best|max)", text.lower())
    return names[found[1]] if found else "mean"


def tolerance_of(
    measured: Runs, printed: Runs, spread: SeedSpread | None, printed_std: float | None, *, seeded: bool
) -> Tolerance:
    """How much the two may differ, without rounding.

    Args:
        measured: our runs.
        printed: the source's.
        spread: over seeds, of the measured networks.
        printed_std: over the source's runs.
        seeded: a seed may change the measured result.
    """
    if printed.statistic == "best" and printed.count > 1:
        return Tolerance(
            None, "unknown"
        )  # the best of several runs is above their mean by what nobody has printed
    if not seeded:
        return Tolerance(ALLOWANCE, "nothing random")
    theirs = SeedSpread(printed_std, printed.count - 1) if printed_std and printed.count > 1 else None
    ours, theirs = spread or theirs, theirs or spread
    if ours is None or theirs is None:
        return Tolerance(None, "unknown")
    parts = [(ours.std**2 * measured.share, ours.freedom), (theirs.std**2 * printed.share, theirs.freedom)]
    variance = math.fsum(part for part, _ in parts)
    noise = math.fsum(part**2 / freedom for part, freedom in parts)
    freedom = float(ours.freedom) if ours is theirs else variance**2 / noise  # Student's, or Welch's
    return Tolerance(float(stdtrit(freedom, (1 + LEVEL) / 2)) * variance**0.5, "seeds")
