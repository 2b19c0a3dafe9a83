"""Names beside points: none overlaps another, a point, a line or the edge."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from vitbench.report.charts.labels import POINT_PX, Box, placed
from vitbench.report.charts.plane import Plane


@pytest.mark.parametrize("seed", range(5))
def test_thirty_names_do_not_overlap(seed):
    generator = np.random.default_rng(seed)
    points = [(generator.uniform(20, 700), generator.normal(160, 50), f"a network {i}") for i in range(30)]
    boxes = placed(points, 720, 320)
    found = [box for box in boxes if box]
    assert len(found) > 24
    assert not [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])]
    for x, y, _ in points:
        point = Box(x - POINT_PX, y - POINT_PX, x + POINT_PX, y + POINT_PX)
        assert not [box for box in found if box.overlaps(point)]
    assert all(box.inside(720, 320) for box in found)


def test_names_are_off_the_line():
    line = [(50.0, 280.0), (200.0, 150.0), (500.0, 90.0), (700.0, 80.0)]
    points = [(x, y, f"network {i}") for i, (x, y) in enumerate(line)]
    for own in (line, ()):
        boxes = [box for box in placed(points, 900, 320, own) if box]
        assert len(boxes) == 4
        along = np.linspace(0, 1, 400)
        on_line = [
            (a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]))
            for a, b in pairwise(line)
            for part in along
        ]
        crossed = [
            box
            for box in boxes
            if any(box.left < x < box.right and box.top < y < box.bottom for x, y in on_line)
        ]
        assert bool(crossed) == (not own)


def test_what_has_no_room_has_no_box():
    boxes = placed([(50, 10, "x" * 10)] * 40, 100, 20)
    assert boxes.count(None) > 30


def test_pixels_and_values_of_a_plane_agree():
    plane = Plane.around([1, 1000], [50, 90], 720, 320)
    assert plane.values(*plane.pixels(30, 60)) == pytest.approx((30, 60))
    assert plane.pixels(1, 50)[0] > 0
    assert plane.pixels(1000, 90)[1] > 0
    (place,) = plane.labels([(30, 60, "name")])
    assert plane.pixels(*place) == pytest.approx((plane.pixels(30, 60)[0] + 9, plane.pixels(30, 60)[1]))
