"""Charts: what they are drawn from, as SVG on the page and as files for papers."""

import json
import re

import pytest

from tests.making.boards import NAMES, board, with_all_that_a_record_can_hold
from tests.making.command import vitbench as command
from vitbench.report.build import boards
from vitbench.report.charts.cost import cost_chart, cost_charts
from vitbench.report.charts.intervals import groups_chart, interval_chart, seeds_chart
from vitbench.report.charts.style import INK, styled, svg
from vitbench.report.charts.trials import trial_points
from vitbench.report.figures import figures, write_figures


@pytest.fixture(scope="module")
def records(tiny_records):
    made = board(tiny_records[0], NAMES[:3])
    return [with_all_that_a_record_can_hold(record) for record in made]


@pytest.fixture(scope="module")
def found(records):
    return boards(records, ["vit2021-t9"])


def drawn(chart):
    """The rows that a chart is drawn from."""
    (rows, *_) = sorted(json.loads(styled(chart))["datasets"].values(), key=len, reverse=True)
    return rows


def test_costs_are_charts_of_their_own_and_each_knows_what_is_its(found):
    charts = cost_charts(found[0])
    assert set(charts) == {"A", "B", "C"}
    assert (
        len(drawn(charts["A"])) == 4
    )  # three quoted rows, and the one of ours whose pre-training is published
    measured = {row.backbone for row in found[0].rows if not row.published}
    assert {row["model"] for row in drawn(charts["C"])} == measured


def test_quoted_points_are_hollow(found):
    rows = drawn(cost_charts(found[0])["A"])
    assert {(row["model"], row["kind"], row["cost"]) for row in rows} >= {
        ("ViT-H/14", "published", 2500), ("vit_large_patch16_224", "measured", 230)
    }  # fmt: skip
    assert [panel for panel in {row["panel"] for row in drawn(groups_chart(found[0]))} if "19" in panel]


def test_seeds_and_intervals_are_told_apart(found, records):
    rows = drawn(seeds_chart(found[0]))
    assert len(rows) == 3 * 19
    for row in rows:
        own = [
            r for r in records if (r.job.backbone.label, r.job.task.label) == (row["backbone"], row["panel"])
        ]
        assert row["seeds"] == [r.metrics["top1"].value for r in sorted(own, key=lambda r: r.job.seed)]
        assert row["low"] < row["value"] < row["high"]


def test_trials_of_a_swept_rate(records):
    points = trial_points(records)
    assert len(points) == 4 * len(records)
    assert {point.option for point in points} == {"base_lr"}
    assert {point.setting for point in points if point.chosen} == {0.03}


def test_every_chart_is_written_in_three_formats(records, tmp_path):
    few = [with_all_that_a_record_can_hold(r) for r in board(records[0], NAMES[:2], ("digits", "vtab/dtd"))]
    boards_of_few = boards(few)
    written = write_figures(tmp_path, boards_of_few, few)
    names = {name for name, _ in figures(boards_of_few, few)}
    assert names == {
        "finetune-1k-cost-B",
        "finetune-1k-cost-C",
        "finetune-1k-seeds",
        "finetune-1k-trials-base_lr",
    }
    assert {path.name for path in written} == {f"{n}.{kind}" for n in names for kind in ("svg", "png", "pdf")}
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for path in written:
        assert path.read_bytes().startswith(starts[path.suffix[1:]])


def test_marks_have_tooltips_and_the_pages_ink(found):
    text = svg(seeds_chart(found[0]))
    assert text.count("<title>") >= 57
    assert INK not in text
    assert re.findall(r"https?:|role=|aria-", text) == []


@pytest.mark.parametrize(
    "name", ["\x00", "\x1b[31mred", "💩" * 100, "\ufffe", "x" * 5000, "\u202eabc", "<b>"]
)
def test_no_name_ends_the_process(name):
    """vl-convert aborts it at some characters; a page is worth more than a name's."""
    rows = [{"panel": name, "backbone": name, "value": 0.5, "low": 0.4, "high": 0.6, "seeds": [0.5]}]
    assert svg(interval_chart(rows, 1)).startswith("<svg")
    assert "<b>" not in svg(interval_chart(rows, 1))


def test_one_point_is_no_chart():
    assert cost_chart([]) is None
    assert svg(None) == ""


def test_the_command_writes_figures_beside_the_page(tiny, tmp_path):
    assert command("run", tiny, "--out", tmp_path / "run").returncode == 0
    done = command("report", tmp_path / "run", "--figures", tmp_path / "figures")
    assert done.returncode == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"knn-full-seeds.pdf", "ridge-probe-full-trials-l2.svg"} <= names
    assert str(tmp_path / "figures" / "knn-full-seeds.pdf") in done.stdout
