"""Places names beside points so that none overlaps another name, a point or a line; those without room are left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

LETTER_PX, HEIGHT_PX = 5.9, 12.0  # of text of 10 px
POINT_PX = 5.0  # from a point's middle to its edge
AWAY_PX = (9.0, 18.0, 30.0, 46.0)
STEP_PX = 6.0  # less than the height of a name


class Box(NamedTuple):
    """A rectangle in pixels from the top left."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, width: float, height: float) -> bool:
        """Whether it is all within a chart of this size."""
        return self.left >= 0 and self.top >= 0 and self.right <= width and self.bottom <= height


def placed(
    points: Sequence[tuple[float, float, str]],
    width: float,
    height: float,
    line: Sequence[tuple[float, float]] = (),
) -> list[Box | None]:
    """A box for each name at (x, y), the first ones first, in a chart of this size, off a line through these points."""
    taken = [Box(x - POINT_PX, y - POINT_PX, x + POINT_PX, y + POINT_PX) for x, y, _ in points]
    taken += [Box(x - 1, y - 1, x + 1, y + 1) for start, end in pairwise(line) for x, y in _along(start, end)]
    boxes: list[Box | None] = []
    for x, y, name in points:
        free = (
            box
            for box in _candidates(x, y, len(name) * LETTER_PX)
            if box.inside(width, height) and not any(box.overlaps(other) for other in taken)
        )
        box = next(free, None)
        boxes.append(box)
        if box:
            taken.append(box)
    return boxes


def _along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Points along a line, so near that no name fits between them."""
    steps = math.ceil(math.dist(start, end) / STEP_PX)
    for i in range(steps + 1):
        part = i / max(steps, 1)
        yield start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])


def _candidates(x: float, y: float, wide: float) -> Iterator[Box]:
    """Right, left, and at the corners of a point, then above and below it; near ones first."""
    for away in AWAY_PX:
        near = 0.7 * away
        for left, middle in (
            (x + away, y), (x - away - wide, y),
            (x + near, y - away), (x + near, y + away), (x - near - wide, y - away), (x - near - wide, y + away),
            (x - wide / 2, y - away - 3), (x - wide / 2, y + away + 3),
        ):  # fmt: skip
            yield Box(left, middle - HEIGHT_PX / 2, left + wide, middle + HEIGHT_PX / 2)
