"""Names beside points: none overlaps another, a point or the edge."""

from itertools import combinations

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
