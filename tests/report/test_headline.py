"""A board in words: every number is that of its rows."""

from dataclasses import replace

import pytest

from tests.making.boards import NAMES, VTAB, board, changed, component
from vitbench.report.build import boards
from vitbench.report.headline import gaps, heading, sentences, tasks_in_words
from vitbench.report.setting_names import budget_name, setting_name


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def test_a_heading_says_what_was_measured(base):
    (found,) = boards(board(base, NAMES[:3]))
    assert heading(found) == "3 backbones on VTAB-1k, fine-tuned on 1,000 images, 3 seeds"
    (few,) = boards(
        board(base, NAMES[:1], ("digits", "svhn"), budget="5-shot", protocol=component("knn", "knn"))
    )
    assert (
        heading(few)
        == "1 backbone on digits and svhn, classified by k-nearest neighbours with 5 images per class, 3 seeds"
    )
    one = [changed(base, backbone="x", task="a", value=0.5, tasks=("a",), budget="full")]
    assert "seed" not in heading(boards(one)[0])


def test_tasks_are_named_or_counted(base):
    (many,) = boards(board(base, NAMES[:1], tuple(VTAB)[:5], 1))
    assert tasks_in_words(many) == "5 tasks"
    (three,) = boards(board(base, NAMES[:1], ("a", "b", "c"), 1))
    assert tasks_in_words(three) == "a, b and c"


def test_settings_have_names_in_words(base):
    names = {budget: budget_name(budget) for budget in ("full", "1k", "1-shot", "10-shot")}
    assert list(names.values()) == [
        "all training images",
        "1,000 images",
        "1 image per class",
        "10 images per class",
    ]
    own = base.job.model_copy(
        update={"protocol": component("finetune", "our recipe"), "budget": "1k", "limit": 20}
    )
    assert setting_name(own).method == "our recipe · limited to 20"
    assert setting_name(own).internal == ("our recipe · limited to 20", "1k")


def test_the_best_and_the_cheapest_within_a_point_are_named(base):
    values = {"best": 0.903, "close": 0.898, "far": 0.60}
    records = [changed(base, backbone=n, task="a", value=v, n=1000, tasks=("a",)) for n, v in values.items()]
    (found,) = boards(records)
    flops = {"best": 2 * 10**10, "close": 4 * 10**9, "far": 10**9}
    rows = tuple(
        replace(row, compute=replace(row.compute, flops_per_image=flops[row.backbone])) for row in found.rows
    )
    best, cheapest = sentences(replace(found, rows=rows))
    interval = rows[0].interval
    assert best == (
        f"Best: best, 90.3 % (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}), "
        "not distinguishable from close."
    )
    assert cheapest == "Cheapest within one point: close, 89.8 % at 4 GFLOPs per image."


def test_ties_are_said_to_be_ties(base):
    records = [changed(base, backbone=n, task="a", value=0.5, tasks=("a",)) for n in ("x", "y")]
    assert sentences(boards(records)[0])[0].startswith("Best: x and y, tied at 50.0 %")


def test_what_is_missing_is_named(base):
    records = [r for r in board(base, NAMES[:2]) if (r.job.backbone.label, r.job.task.label, r.job.seed) != (
        "vit_base_patch16_224", "vtab/dtd", 1)]  # fmt: skip
    assert gaps(boards(records)[0]) == (
        "Incomplete, not ranked: vit_base_patch16_224 (lacks vtab/dtd: 2 of 3 seeds)."
    )
    failed = changed(base, backbone="broken", task="a", status="failed", tasks=("a",)).model_copy(
        update={"backbone": None}
    )
    (found,) = boards([changed(base, backbone="x", task="a", value=0.5, tasks=("a",)), failed])
    assert gaps(found) == "Incomplete, not ranked: broken (failed)."
    assert (found.rows[-1].family, found.rows[-1].failure) == ("unknown", "boom")
