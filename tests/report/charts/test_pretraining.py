"""Accuracy against counted pre-training FLOPs: which rows are points, and where untrained networks stand."""

import pytest

from tests.making.boards import changed
from vitbench.report.build import boards
from vitbench.report.charts.pretraining import pretraining_chart, pretraining_points


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def made(base, name, family, flops, value, **changes):
    facts = base.backbone.model_copy(update={"family": family, "pretrain_flops": flops})
    return changed(base, backbone=name, value=value, **changes).model_copy(update={"backbone": facts})


def test_families_with_several_budgets_are_drawn_untrained_ones_left_of_the_axis(base):
    records = [
        made(base, "ViT 1", "ViT", 1e12, 0.5),
        made(base, "ViT 2", "ViT", 4e12, 0.6),
        made(base, "ViT untrained", "ViT", 0.0, 0.4),
        made(base, "Raw pixels", "baseline", 0.0, 0.3),
        made(base, "other", "BiT", None, 0.9),  # nobody has counted them
    ]
    points = pretraining_points(boards(records))
    assert dict(zip(points["model"], points["flops"], strict=True)) == {
        "ViT 1": 1e12, "ViT 2": 4e12, "ViT untrained": 0, "Raw pixels": 0,
    }  # fmt: skip
    drawn = pretraining_chart(points).to_dict()
    (rows,) = drawn["datasets"].values()
    places = {row["model"]: row["at"] for row in rows}
    assert places["ViT untrained"] < places["ViT 1"] == 1e12
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)


def test_one_budget_of_each_family_is_no_curve(base):
    records = [made(base, "ViT 1", "ViT", 1e12, 0.5), made(base, "BiT 1", "BiT", 2e12, 0.6)]
    points = pretraining_points(boards(records))
    assert pretraining_chart(points) is None


def test_core_days_are_not_drawn_with_counted_flops(base):
    published = base.backbone.model_copy(update={"pretrain_tpu_v3_core_days": 230.0, "pretrain_flops": None})
    records = [changed(base, backbone="a").model_copy(update={"backbone": published})]
    assert pretraining_points(boards(records)).empty
