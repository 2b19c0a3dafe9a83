"""Mean accuracy against compute: which rows have points, and the Pareto front."""

import pandas as pd

from vitbench.report.charts.cost import COST, cost_chart, cost_points, pareto_front


def test_each_quantity_has_a_drawing_of_its_own_rows(vtab_board):
    assert [drawing.variant for drawing in COST.draw([vtab_board], [])] == ["A", "B", "C"]
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
