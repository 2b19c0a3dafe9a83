"""Accuracy against examples per class: the points of the curves."""

import re
from itertools import pairwise

import pytest

from tests.making.boards import changed
from vitbench.report.charts.shots import shots_chart, shots_points
from vitbench.report.charts.style import svg


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def test_different_settings_have_separate_curves(base):
    records = [
        changed(base, backbone="x", task="a", value=0.5, budget="1-shot"),
        changed(base, backbone="x", task="a", value=0.1, budget="1-shot", limit=30),
    ]
    assert sorted(shots_points(records)["value"]) == [0.1, 0.5]


def test_shots_are_averaged_over_seeds_with_their_range(base):
    records = [
        changed(base, backbone="x", task="a", value=v, seed=i, budget="5-shot")
        for i, v in enumerate((0.2, 0.4))
    ]
    points = shots_points([*records, changed(base, value=0.9, budget="full")])
    (point,) = points.itertuples()
    assert shots_chart(points) is None  # one budget is not a curve
    assert (point.shots, point.value, point.low, point.high) == (5, pytest.approx(0.3), 0.2, 0.4)


def test_names_at_the_ends_of_curves_do_not_overlap(base):
    records = [
        changed(base, backbone=name, task="a", value=value, budget=budget)
        for name, value in (("x", 0.500), ("y", 0.501), ("z", 0.502))
        for budget in ("1-shot", "5-shot")
    ]
    drawn = svg(shots_chart(shots_points(records)))
    places = re.findall(
        r'<text text-anchor="start" transform="translate\(([\d.]+),([\d.]+)\)"[^>]*>([xyz])<', drawn
    )
    assert sorted(name for *_, name in places) == ["x", "y", "z"]
    heights = sorted(float(y) for _, y, _ in places)
    assert min(b - a for a, b in pairwise(heights)) > 11
