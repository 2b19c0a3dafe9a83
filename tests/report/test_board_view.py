"""What the page says of a board: its choices, fronts and costs."""

import pytest

from tests.making.boards import NAMES, board, changed, component
from vitbench.report.board_view import board_view, choices, default_board
from vitbench.report.build import boards
from vitbench.report.charts.cost import cost_points, pareto_front


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def test_the_front_is_that_of_the_chart(vtab_board):
    view = board_view(vtab_board)
    assert [letter for letter, *_ in view.axes] == ["A", "B", "C"]
    for i, letter in enumerate("ABC"):
        wanted = set(pareto_front(cost_points(vtab_board, letter))["model"])
        assert {one.row.backbone for one in view.rows if letter in one.front} == wanted
        costs = {one.row.backbone: one.costs[i] for one in view.rows if one.row.mean is not None}
        points = cost_points(vtab_board, letter).set_index("model")["cost"].to_dict()
        assert {name: cost for name, cost in costs.items() if cost is not None} == pytest.approx(points)


def test_the_page_opens_with_the_most_complete_board(base):
    records = [
        *board(base, NAMES[:1], ("a", "b"), 1, budget="1k"),
        *board(base, NAMES[:3], ("a", "b"), 1, budget="5-shot", protocol=component("knn", "knn")),
        *board(base, NAMES[:3], ("a", "b"), 1, budget="1k", protocol=component("knn", "knn")),
    ]
    found = boards(records)
    views = [board_view(each) for each in found]
    assert found[default_board(views)].label == "knn · 1k"
    names = choices(found)
    assert [choice.name for choice in names.methods] == ["Fine-tuning", "k-nearest neighbours"]
    assert [choice.internal for choice in names.budgets] == ["5-shot", "1k"]


def test_costs_that_no_row_has_are_no_column(base):
    (found,) = boards([changed(base, backbone="x", task="a", value=0.5, tasks=("a",))])
    assert "core_days" not in [column.key for column in board_view(found).compute_columns]


def test_a_row_says_what_it_lacks(base):
    records = [changed(base, backbone="x", task="a", value=0.5, tasks=("a", "b"))]
    (one,) = board_view(boards(records)[0]).rows
    assert one.missing == "lacks b"
