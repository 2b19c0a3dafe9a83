"""Accuracy that networks of standard training have out of distribution, by their accuracy in distribution.

Effective robustness is what a network has above that (Taori et al., arXiv 2007.00644, sec. 2): the expected accuracy is a line
through the standard models of ImageNet Testbed, both axes as logits (docs/protocols.md#effective-robustness).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("standard_models.json")
IN_DISTRIBUTION = {"a": "imagenet, classes of a", "r": "imagenet, classes of r"}  # of the others: `imagenet`
LEAST = {
    "": 0.55,
    "a": 0.75,
    "r": 0.75,
}  # in distribution, of a model that the line goes through
# Images of ImageNet-A are those that a ResNet-50 gets wrong: its own accuracy on their classes divides the models in two lines.
PIVOT = {"a": ("resnet50", 0.9186)}  # TB:plotting/paper_imagenet_a.py
SET_NAMES = ("v2", "v2-threshold", "v2-top", "a", "r", "sketch", "c")


@dataclass(frozen=True)
class Line:
    """A line through points on logit axes: how many, and the lowest and highest accuracy in distribution among them."""

    slope: float
    intercept: float
    models: int
    lowest: float
    highest: float

    def at(self, accuracy: float) -> float:
        """The accuracy out of distribution that is expected at one in distribution, both in [0, 1]."""
        if not 0 < accuracy < 1:
            return accuracy
        return _from_logit(self.slope * _logit(accuracy) + self.intercept)


@dataclass(frozen=True)
class Baseline:
    """What standard models have on a test set: their points (in, out of distribution), and the lines through them."""

    points: tuple[tuple[float, float], ...]
    lines: tuple[Line, ...]
    pivot: float = 1.0  # in distribution, above which the second line holds

    def expected(self, accuracy: float) -> float:
        """The accuracy out of distribution that a standard model has, by that in distribution, both in [0, 1]."""
        return self.lines[-1 if accuracy > self.pivot else 0].at(accuracy)

    def is_extrapolated(self, accuracy: float) -> bool:
        """Whether no standard model is as accurate in distribution, or as inaccurate."""
        return not self.lines[0].lowest <= accuracy <= self.lines[-1].highest


def source() -> str:
    """Where the points come from."""
    return str(_file()["source"])


@cache
def baseline(test_set: str) -> Baseline | None:
    """The baseline of one of ImageNet's further test sets; None of any other."""
    if test_set not in SET_NAMES:
        return None
    file = _file()
    across, up = (
        file["columns"].index(name) for name in (IN_DISTRIBUTION.get(test_set, "imagenet"), test_set)
    )
    pivot_model, pivot = PIVOT.get(test_set, ("", 1.0))
    least = LEAST.get(test_set, LEAST[""])
    points = sorted(
        (values[across] / 100, values[up] / 100)
        for name, values in file["models"].items()
        if values[across] is not None
        and values[up] is not None
        and values[across] / 100 >= least
        and name != pivot_model
    )
    sides = [
        [point for point in points if point[0] <= pivot],
        [point for point in points if point[0] > pivot],
    ]
    return Baseline(tuple(points), tuple(fit(side) for side in sides if side), pivot)


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through points (in, out of distribution) on logit axes."""
    xs, ys = ([_logit(point[i]) for point in points] for i in (0, 1))
    slope, intercept = statistics.linear_regression(xs, ys)
    known = [x for x, _ in points]
    return Line(slope, intercept, len(points), min(known), max(known))


@cache
def _file() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _from_logit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
