"""What the page says of a board: its choices, fronts and costs."""

import pytest

from tests.making.boards import NAMES, board, changed, component
from vitbench.report.board_view import board_view, choices, default_board
from vitbench.report.build import boards
from vitbench.report.charts.cost import QUANTITIES, cost_points, pareto_front
from vitbench.report.page import render
from vitbench.report.tidy import tidy


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


def tuned(record, trained):
    cost = record.cost.model_copy(update={"trained_parameters": trained})
    backbone = record.backbone.model_copy(update={"params": 5_000_000})
    return record.model_copy(update={"cost": cost, "backbone": backbone})


def test_trained_parameters_are_a_column_and_an_axis_where_a_part_is_trained(base):
    """The mean over tasks, whose heads differ; of probes and of whole backbones there is no such column."""
    counts = {("a", "x"): 300_000, ("b", "x"): 100_000, ("a", "y"): 50_000, ("b", "y"): 30_000}
    rows = [
        tuned(
            changed(base, backbone=name, task=task, value=0.4 + 0.1 * (name == "x"), tasks=("a", "b")), count
        )
        for (task, name), count in counts.items()
    ]
    view = board_view(boards(rows)[0])
    (column,) = [each for each in view.compute_columns if each.key == "trained"]
    texts = {one.row.backbone: column.text(one.row.compute) for one in view.rows}
    assert texts == {"x": "200 k", "y": "40 k"}
    assert ("T", "Trained parameters", "trained parameters, millions, heads included") in view.axes
    place = list(QUANTITIES).index("T")
    assert {one.row.backbone: one.plotted.split(",")[place] for one in view.rows} == {"x": "0.2", "y": "0.04"}
    assert all("T" in one.front for one in view.rows)
    page = render(rows)
    assert 'data-key="trained"' in page
    assert 'data-cost="T"' in page
    assert "by trained parameters" in page
    table = tidy(rows).set_index(["task", "backbone"])["trained_parameters"].to_dict()
    assert table == counts
    for trained in (None, 5_000_100):  # a probe, and a backbone with its head
        plain = [tuned(row, trained) for row in rows]
        assert "trained" not in [each.key for each in board_view(boards(plain)[0]).compute_columns]
        page = render(plain)
        assert 'data-key="trained"' not in page
        assert 'data-cost="T"' not in page
        assert "by trained parameters" not in page
