"""Families keep their colours on all charts of a page, and readers with a colour deficiency can tell them apart."""

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from vitbench.report.charts import CHARTS
from vitbench.report.charts.families import PALETTE, SHAPES, Families
from vitbench.report.charts.style import svg

# How linear RGB looks to readers without one kind of cone (Machado, Oliveira and Fernandes, IEEE TVCG 15, 2009).
SIMULATIONS = {
    "full vision": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.95047, 1.0, 1.08883])
BACKGROUNDS = ("#ffffff", "#14171a")
LEAST_DISTANCE, LEAST_CONTRAST = 25, 2.5


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(colour, simulation):
    x, y, z = TO_XYZ @ np.clip(np.array(simulation) @ linear(colour), 0, 1) / WHITE
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("name", SIMULATIONS)
def test_any_two_colours_can_be_told_apart(name):
    seen = {colour: lab(colour, SIMULATIONS[name]) for colour in PALETTE}
    distances = {
        pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(PALETTE, 2)
    }
    assert min(distances.values()) > LEAST_DISTANCE, min(distances, key=distances.get)


def test_colours_stand_out_from_both_backgrounds():
    def light(colour):
        return float(TO_XYZ[1] @ linear(colour)) + 0.05

    for colour in PALETTE:
        for background in BACKGROUNDS:
            darker, lighter = sorted((light(colour), light(background)))
            assert lighter / darker > LEAST_CONTRAST, (colour, background)


def test_families_beyond_the_colours_have_other_shapes():
    names = [f"family {i:02}" for i in range(len(PALETTE) * len(SHAPES))]
    looks = Families(names).looks
    assert len(set(looks.values())) == len(names)
    assert [look.shape for look in looks.values()][:8] == ["circle"] * 8


def test_a_family_has_one_colour_on_all_charts(vtab_board, vtab_records):
    board = replace(vtab_board, rows=tuple(replace(row, family="BiT") for row in vtab_board.rows))
    families = Families(["ViT", "BiT", "CNN"])
    for chart in CHARTS:
        for drawing in chart.draw([vtab_board if chart.scope == "run" else board], vtab_records, families):
            drawn = set(re.findall("|".join(PALETTE), svg(drawing.spec)))
            wanted = families.look("ViT" if chart.name == "trials" else "BiT").colour
            assert drawn == {wanted}, chart.name
