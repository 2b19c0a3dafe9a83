"""The plane of a chart with a logarithmic axis against a linear one: where its values are in pixels, for placing names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitbench.report.charts.labels import Box, placed

MARGIN = 0.05  # of each axis, beyond the values


@dataclass(frozen=True)
class Plane:
    """The ends of both axes, and the size in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int

    @classmethod
    def around(cls, xs: Sequence[float], ys: Sequence[float], width: int, height: int) -> Plane:
        """The plane with these values and some room around them."""
        low, high = math.log(min(xs)), math.log(max(xs))
        room = MARGIN * (high - low) or 1.0
        bottom, top = min(ys), max(ys)
        pad = MARGIN * (top - bottom) or 1.0
        return cls((math.exp(low - room), math.exp(high + room)), (bottom - pad, top + pad), width, height)

    def pixels(self, x: float, y: float) -> tuple[float, float]:
        """From the top left."""
        low, high = map(math.log, self.x)
        across = (math.log(x) - low) / (high - low) * self.width
        return across, (self.y[1] - y) / (self.y[1] - self.y[0]) * self.height

    def values(self, across: float, down: float) -> tuple[float, float]:
        """What is so many pixels from the top left."""
        low, high = map(math.log, self.x)
        x = math.exp(low + across / self.width * (high - low))
        return x, self.y[1] - down / self.height * (self.y[1] - self.y[0])

    def labels(
        self, points: Sequence[tuple[float, float, str]], line: Sequence[tuple[float, float]] = ()
    ) -> list[tuple[float, float] | None]:
        """Where the names of points (x, y, name) begin, the most important first, off a line; None where there is no room."""
        boxes = placed(
            [(*self.pixels(x, y), name) for x, y, name in points],
            float(self.width),
            float(self.height),
            [self.pixels(x, y) for x, y in line],
        )
        return [box and self.values(*_start(box)) for box in boxes]


def _start(box: Box) -> tuple[float, float]:
    return box.left, (box.top + box.bottom) / 2
