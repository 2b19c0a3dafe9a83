"""Metrics that suites ask for, over images and seeds: intervals only where one is known."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.making.boards import made
from tests.making.command import vitbench as command
from vitbench.core.record import FurtherMetric
from vitbench.core.wilson import wilson
from vitbench.report.build import boards
from vitbench.report.charts import CHARTS
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import svg
from vitbench.report.compare import compare
from vitbench.report.export import latex, markdown, terminal
from vitbench.report.outcomes import predictions_of
from vitbench.report.page import Extras, render
from vitbench.report.rank_table import ranks
from vitbench.report.statistics import Point
from vitbench.store.run_dir import RunDir

N = 400
# By backbone, metric and seed: top-1 puts x before y, the other two y before x.
VALUES = {
    "x": {"top1": (0.80, 0.82), "top5": (0.90, 0.91), "mean_per_class": (0.611, 0.633)},
    "y": {"top1": (0.70, 0.71), "top5": (0.99, 0.98), "mean_per_class": (0.711, 0.722)},
}


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def saved(base, place, asked, suites=("made",)):
    """A run directory of two backbones with two seeds each, whose suite asks for {task: metric}, and its records."""
    run, found = RunDir(place), []
    for (name, values), suite in zip(VALUES.items(), suites * 2, strict=False):
        for task, metric in asked.items():
            for seed in (0, 1):
                record = made(base, name, task, seed, values["top1"][seed], tasks=tuple(asked), seeds=2)
                context = record.job.suite.model_copy(update={"metric": metric, "name": suite})
                low, high = wilson(round(N * values["top5"][seed]), N)
                further = {
                    "top5": FurtherMetric(value=values["top5"][seed], ci_low=low, ci_high=high, n=N),
                    "mean_per_class": FurtherMetric(value=values["mean_per_class"][seed], n=N),
                }
                whole = record.model_copy(
                    update={
                        "job": record.job.model_copy(update={"suite": context}),
                        "data": record.data.model_copy(update={"n_test": N}),
                        "further": further,
                    }
                )
                correct = (np.arange(N) < N * values["top1"][seed]).astype(float)
                rows = pd.DataFrame({"index": np.arange(N), "top1_correct": correct})
                found.append(run.write(whole, rows))
    return found


def made_boards(records, run):
    return boards(records, predictions=predictions_of([run], records))


def test_a_metric_without_a_known_interval_has_seeds_alone(base, tmp_path):
    records = saved(base, tmp_path, {"a": "mean_per_class"})
    (board,) = made_boards(records, tmp_path)
    for row in board.rows:
        (cell,) = row.cells
        assert cell.by_seed == VALUES[row.backbone]["mean_per_class"]
        assert (cell.ci_low, cell.ci_high, cell.image_low, cell.estimate) == (None, None, None, None)
        assert cell.spread == pytest.approx(np.std(cell.by_seed, ddof=1))
        assert row.mean == pytest.approx(np.mean(cell.by_seed))
        assert row.interval is None
        assert not row.first
    assert [(row.backbone, row.rank) for row in board.rows] == [("y", 1), ("x", 2)]
    for text in (markdown(board), latex(board)):
        assert "no interval known: a · mean per class" in text
        assert "95 % intervals are" not in text
        assert "±" in text
    assert "≈" not in markdown(board)
    assert "mean per class" in terminal([board])


def test_the_page_says_that_no_interval_is_known(base, tmp_path):
    records = saved(base, tmp_path, {"a": "mean_per_class"})
    page = render(records, Extras(predictions=predictions_of([tmp_path], records)))
    assert f'title="{N} test images, no interval known; seeds 61.1–63.3"' in page
    assert 'title="no interval known"><b>62.2</b>' in page
    assert "No interval is known of a · mean per class" in page
    assert "at least 95 %" not in page
    plain = saved(base, tmp_path / "plain", {"a": ""})
    page = render(plain, Extras(predictions=predictions_of([tmp_path / "plain"], plain)))
    assert "no interval known" not in page.lower()
    assert "No interval is known" not in page


def test_one_such_column_leaves_the_mean_without_an_interval_and_the_others_with_theirs(base, tmp_path):
    records = saved(base, tmp_path, {"a": "mean_per_class", "b": ""})
    (board,) = made_boards(records, tmp_path)
    per_class, top1 = board.rows[0].cells
    assert (per_class.ci_low, per_class.known_images) == (None, False)
    assert top1.ci_low < top1.value < top1.ci_high
    assert top1.known_images
    assert {row.interval for row in board.rows} == {None}
    assert not any(row.first for row in board.rows)
    assert board.without_interval == ("a · mean per class",)
    render(records, Extras(predictions=predictions_of([tmp_path], records)))


def test_top5_keeps_its_interval_which_is_longer_than_it_has_to_be(base, tmp_path):
    records = saved(base, tmp_path, {"a": "top5"})
    (board,) = made_boards(records, tmp_path)
    for row in board.rows:
        (cell,) = row.cells
        low, high = (
            np.mean([wilson(round(N * value), N)[side] for value in cell.by_seed]) for side in (0, 1)
        )
        assert (cell.image_low, cell.image_high) == pytest.approx((low, high))
        assert cell.ci_low < cell.value < cell.ci_high
        assert not cell.known_images
        assert row.interval is not None
    assert board.without_interval == ()
    assert "≥ 95 % interval, 400 images, 2 seeds" in render(records)


def test_charts_of_such_a_board_are_drawn(base, tmp_path):
    records = saved(base, tmp_path, {"a": "mean_per_class", "b": "top5"})
    found = made_boards(records, tmp_path)
    drawn = [svg(each.spec) for chart in CHARTS for each in chart.draw(found, records, Families([]))]
    assert drawn
    assert any("accuracy" in text for text in drawn)


def test_compare_uses_the_metric_of_the_board(base, tmp_path):
    saved(base, tmp_path, {"a": "mean_per_class", "b": "top5", "c": ""})
    found = compare([tmp_path], "x", "y")
    by_metric = {row.metric: row for row in found.cells}
    per_class, top5, top1 = (by_metric[name] for name in ("mean_per_class", "top5", "top1"))
    assert isinstance(per_class.gap, Point)
    assert (per_class.p, per_class.p_holm) == (None, None)
    assert per_class.gap.value == pytest.approx(np.mean([0.711, 0.722]) - np.mean([0.611, 0.633]))
    assert top5.gap.low < 0.08 < top5.gap.high
    assert (top5.known_images, top1.known_images) == (False, True)
    assert top1.gap.value == pytest.approx(0.705 - 0.81)
    (mean,) = found.means
    assert isinstance(mean.gap, Point)
    assert mean.p is None
    assert "2 complete cells" in found.family


def test_ranks_without_an_interval_are_places(base, tmp_path):
    saved(base, tmp_path / "without", {"a": "mean_per_class", "b": ""})
    (rows,) = ranks([tmp_path / "without"]).values()
    assert {name: (each.rank.value, each.rank.low, each.mean.low) for name, each in rows.items()} == {
        "x": (1, None, None),
        "y": (2, None, None),
    }
    saved(base, tmp_path / "top5", {"a": "top5"})
    (rows,) = ranks([tmp_path / "top5"]).values()
    assert rows["y"].rank.value == 1
    assert rows["y"].mean.low < 0.985 < rows["y"].mean.high


def test_suites_that_disagree_are_compared_by_the_tasks_own_metric(base, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    saved(base, first, {"a": "mean_per_class"})
    for record in saved(base, second, {"a": "top5"}, ("other",)):
        if record.job.backbone.label == "x":
            RunDir(second).record_path(record.key).unlink()
    for record in saved(base, first, {"a": "mean_per_class"}):
        if record.job.backbone.label == "y":
            RunDir(first).record_path(record.key).unlink()
    (row,) = compare([first, second], "x", "y").cells
    assert row.metric == "top1"


def test_the_command_says_it_in_words_and_in_json(base, tmp_path):
    saved(base, tmp_path, {"a": "mean_per_class", "b": "top5"})
    text = command("compare", tmp_path, "--backbones", "x", "y").stdout
    assert "no interval known" in text
    assert "mean_per_class, n 400" in text
    assert "top5, interval ≥ 95 %, images not paired, n 400" in text
    assert "no interval known" in command("compare", tmp_path).stdout
    parsed = json.loads(command("compare", tmp_path, "--backbones", "x", "y", "--json").stdout)
    assert {cell["task"]: cell["gap"]["low"] is None for cell in parsed["cells"]} == {"a": True, "b": False}
    assert parsed["means"][0]["p"] is None
