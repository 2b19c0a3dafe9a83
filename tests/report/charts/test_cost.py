"""Mean accuracy against compute: which rows have points, and the Pareto front."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from vitbench.report.charts.cost import COST, cost_chart, cost_points, log_ticks, pareto_front, without_cost
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import svg


def test_each_quantity_has_a_drawing_of_its_own_rows(vtab_board):
    assert [drawing.variant for drawing in COST.draw([vtab_board], [], Families([]))] == ["A", "B", "C"]
    assert (
        len(cost_points(vtab_board, "A")) == 4
    )  # three published rows, and the measured one with published core-days
    measured = {row.backbone for row in vtab_board.rows if not row.published}
    assert set(cost_points(vtab_board, "C")["model"]) == measured


def test_published_points_are_marked(vtab_board):
    points = cost_points(vtab_board, "A")
    assert set(zip(points["model"], points["kind"], points["cost"], strict=True)) >= {
        ("ViT-H/14", "published", 2500), ("vit_large_patch16_224", "measured", 230)
    }  # fmt: skip


def test_seconds_are_of_one_device(vtab_board):
    assert len(cost_points(vtab_board, "C", "GPU")) == 3
    assert cost_points(vtab_board, "C", "another").empty


def test_the_pareto_front_has_no_dominated_point():
    points = pd.DataFrame(
        [("a", 1, 5), ("b", 2, 4), ("c", 2, 6), ("d", 9, 6)], columns=["model", "cost", "score"]
    )
    assert list(pareto_front(points)["model"]) == ["a", "c"]


def test_one_point_is_not_a_chart(vtab_board):
    assert cost_chart(cost_points(vtab_board, "A")[:1], "cost") is None


def with_costs(board, costs):
    """The board with these FLOPs per image, for its first rows that have a mean."""
    rows = [row for row in board.rows if row.mean is not None][: len(costs)]
    changed = [
        replace(row, compute=replace(row.compute, flops_per_image=flops))
        for row, flops in zip(rows, costs, strict=True)
    ]
    return replace(board, rows=tuple(changed))


def test_a_cost_of_zero_is_drawn_and_on_the_front(vtab_board):
    board = with_costs(vtab_board, [0, 2 * 10**9, 3 * 10**10])
    points = cost_points(board, "B")
    assert sorted(points["cost"]) == [0, 2, 30]
    assert pareto_front(points)["cost"].iloc[0] == 0
    spec = cost_chart(points, "GFLOPs").to_dict()
    axis = spec["layer"][0]["encoding"]["x"]["axis"]
    assert axis["values"][0] < axis["values"][1] / 2
    drawn = svg(cost_chart(points, "GFLOPs"))
    assert ">0<" in drawn
    names = points["model"].tolist()
    assert all(f"<title>{name}: " in drawn for name in names)
    assert not re.search(r"<title>[^<]*\d\.\d{3,}", drawn)


def test_rows_of_unknown_cost_are_named(vtab_board):
    board = with_costs(vtab_board, [None, 2 * 10**9, 3 * 10**10])
    (hidden,) = without_cost(board, "B")
    assert hidden not in set(cost_points(board, "B")["model"])
    (drawing,) = [drawing for drawing in COST.draw([board], [], Families([])) if drawing.variant == "B"]
    assert f"no comparable cost: {hidden}" in svg(drawing.spec)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (1, 10, [1, 2, 5, 10]), (1.2, 27, [1, 2, 5, 10, 20, 50]), (0.017, 0.17, [0.01, 0.02, 0.05, 0.1, 0.2]),
        (3, 40_000, [1, 10, 100, 1000, 10_000, 100_000]), (7, 7, [5, 10]),
        (250, 440, [200, 300, 400, 500]),
    ],
)  # fmt: skip
def test_ticks_stand_all_along_the_axis(low, high, wanted):
    assert log_ticks(low, high) == pytest.approx(wanted)
