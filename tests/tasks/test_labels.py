"""VTAB's derived labels against golden labels, and edge cases."""

import json

import pytest

from tests.making import paths
from vitbench.tasks.labels import clevr_count, clevr_distance, dsprites_bins, kitti_distance

GOLDEN = json.loads((paths.GOLDEN / "labels.json").read_text())
VALUES = {"label_x_position": 32, "label_orientation": 40}


@pytest.mark.parametrize("scene", GOLDEN["clevr"], ids=range(len(GOLDEN["clevr"])))
def test_clevr(scene):
    assert clevr_count(scene["pixel_coords"]) == scene["count"]
    assert clevr_distance(scene["pixel_coords"]) == scene["distance"]


@pytest.mark.parametrize("street", GOLDEN["kitti"], ids=range(len(GOLDEN["kitti"])))
def test_kitti(street):
    assert kitti_distance(street["type"], street["location"]) == street["distance"]


@pytest.mark.parametrize("case", GOLDEN["dsprites"], ids=lambda c: f"{c['attribute']}-{c['value']}")
def test_dsprites(case):
    assert dsprites_bins(case["value"], VALUES[case["attribute"]]) == case["label"]


def test_orientation_groups_are_three_and_two():
    groups = [dsprites_bins(value, 40) for value in range(40)]
    assert [groups.count(label) for label in range(16)] == [3, 2] * 8


def test_a_street_without_vehicles_has_its_own_class():
    assert kitti_distance([], []) == 3
    assert kitti_distance([3, 7], [[0, 0, 2.0], [0, 0, 3.0]]) == 3  # pedestrians do not count


def test_a_depth_on_the_boundary_belongs_to_the_lower_class():
    assert [clevr_distance([[0, 0, depth]]) for depth in (8.0, 8.5, 8.501, 10.0, 10.1)] == [0, 1, 2, 4, 5]


def test_a_scene_without_objects_is_an_error():
    for rule in (clevr_count, clevr_distance):
        with pytest.raises(ValueError, match="CLEVR scene"):
            rule([])
