import base64
import gzip
import json
import re

import pytest

from tests.making.boards import VTAB, board, with_all_that_a_record_can_hold
from vitbench.core.record import Confusion, Trial
from vitbench.report.cell_details import details
from vitbench.report.charts import CHARTS
from vitbench.report.packing import packed
from vitbench.report.page import Extras, render


def labelled(record, label):
    backbone = record.job.backbone.model_copy(update={"label": label})
    return record.model_copy(update={"job": record.job.model_copy(update={"backbone": backbone})})


def test_the_page_contains_no_url(tiny_records):
    page = render(tiny_records)
    assert re.findall(r"https?:|//[a-z]|src=|@import|url\(", page) == []
    assert page.count("<link") == 1
    assert 'href="data:,"' in page


def test_names_are_escaped_everywhere(tiny_records):
    evil = "<script>alert(1)</script>\"'&"
    page = render([labelled(record, evil) for record in tiny_records])
    assert page.count("<script>") == 1  # the page's own
    assert 'alert(1)</script>"' not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_shows_the_scores(tiny_records):
    page = render(tiny_records)
    for record in tiny_records:
        if record.job.budget == "full":
            assert f"<b>{100 * record.metrics['top1'].value:.1f}</b>" in page


def test_the_same_records_give_the_same_page(tiny_records):
    first, second = (re.sub(r"(id|clip\d*|gradient)[\w-]*\d+", "", render(tiny_records)) for _ in range(2))
    assert first == second


def test_every_score_opens_its_records(tiny_records):
    page = render(tiny_records)
    carried = json.loads(re.search(r'<script type="application/json" id="details">(.*?)</script>', page)[1])
    opened = set(re.findall(r'data-cell="(\w+)"', page))
    assert opened == set(carried["cells"])
    keys = {seed["key"] for cell in carried["cells"].values() for seed in cell["seeds"]}
    assert keys == {record.key for record in tiny_records}
    for record in tiny_records:
        (seed,) = (s for c in carried["cells"].values() for s in c["seeds"] if s["key"] == record.key)
        grid = carried["grids"][seed["trials"]["grid"]]
        assert grid == [trial.options for trial in record.trials]
        values = [None if t.value is None else round(t.value, 5) for t in record.trials]
        assert seed["trials"]["values"] == values
        assert record.trials[seed["trials"]["chosen"]].chosen


def test_the_page_has_the_charts_of_a_board_in_order(vtab_records):
    page = render(vtab_records)
    not_of_these = ("robustness",)  # of records with further test sets
    shown = [
        chart
        for chart in CHARTS
        if chart.scope == "board" and chart.most_cells != 0 and chart.name not in not_of_these
    ]
    places = [page.index(f">{chart.title}</") for chart in shown]
    assert len(places) == 3
    assert places == sorted(places)


@pytest.mark.slow
def test_a_large_board_stays_small(tiny_records):
    tasks = [*VTAB, *(f"further {i}" for i in range(6))]
    records = board(tiny_records[0], [f"net_{i}.weights" for i in range(20)], tasks)
    matrix = Confusion(classes=tuple(f"class {i}" for i in range(12)), matrix=((17,) * 12,) * 12)
    full = [with_all_that_a_record_can_hold(record) for record in records]
    full = [r.model_copy(update={"confusion": matrix}) if i % 2 else r for i, r in enumerate(full)]
    page = render(full, Extras(published=("vit2021-t9", "vtab-lb-")))
    assert len(page.encode()) < 1_600_000
    (held,) = re.findall(r'id="details">{"gzip": "(.*?)"}</script>', page)
    assert re.findall(r"https?:|//[a-z]|src=|@import|url\(", page.replace(held, "")) == []
    carried = json.loads(gzip.decompress(base64.b64decode(held)))
    assert len(carried["cells"]) == 20 * 25


def doubted(record):
    """The record with one item of its conformance list that nobody knows."""
    first, *others = record.conformance
    doubt = first.model_copy(update={"ok": None, "reason": "nobody has said"})
    return record.model_copy(update={"conformance": (doubt, *others)})


def sound(record):
    """The record as if its protocol were its reference's."""
    checks = tuple(check.model_copy(update={"ok": True, "reason": ""}) for check in record.conformance)
    return record.model_copy(update={"conformance": checks})


def test_what_is_not_known_is_neither_a_tick_nor_a_cross(tiny_records):
    records = [sound(record) for record in tiny_records]
    whole = render(records)
    page = render([doubted(record) for record in records])
    count = len(tiny_records[0].conformance)
    assert f"✓ {count}/{count}" in whole
    assert f"✓ {count}/{count}" not in page
    assert f'<span class="unknown">{count - 1}/{count}<small> 1 not known</small></span>' in page
    assert "? not known for" in page
    assert "nobody has said" in page
    assert "not conformant:" not in page  # no dagger: that is for what does not hold


def test_a_row_of_different_weights_says_so(tiny_records):
    first, *others = tiny_records
    other = first.backbone.model_copy(update={"weights_digest": "f" * 64, "source": "hub@abc"})
    page = render([first.model_copy(update={"backbone": other}), *others])
    assert "different weights under one name" in page
    assert "hub@abc (sha256 ffffffffffff)" in page
    assert "one set of weights" not in render(tiny_records)


@pytest.mark.parametrize(
    ("curve", "drawn"),
    [
        ({"step": (0.0, 1.0), "loss": (1.7976931348623157e308, None)}, [1.7976931348623157e308, None]),
        ({"step": (0.0, 1.0), "loss": (123.456, 0.5)}, [123.0, 0.5]),
        ({"step": (0.0, 1.0)}, None), ({"step": (0.0, 1.0), "loss": (1.0,)}, None), ({"odd": (1.0,)}, None),
    ],
)  # fmt: skip
def test_any_curve_and_gap_of_a_plugin_fits_on_the_page(tiny_records, curve, drawn):
    """Rounding the largest numbers must not make them infinite, and a series may be missing."""
    trial = Trial(
        options={"l2": 1}, split="val", metric="top1", value=0.5, chosen=True, curve=curve,
        certificate={"relative_gap": 1.7976931348623157e308},
    )  # fmt: skip
    text = details([tiny_records[0].model_copy(update={"trials": (trial,)})])
    assert "Infinity" not in text
    (cell,) = json.loads(text)["cells"].values()
    trials = cell["seeds"][0]["trials"]
    assert trials["gap"] == 1.7976931348623157e308
    assert [losses for _, losses in trials.get("curves", [])] == ([drawn] if drawn else [])


def test_the_guide_explains_the_marks_in_few_words(tiny_records):
    guide = re.search(r'<dl class="guide">(.*?)</dl>', render(tiny_records), re.DOTALL)[1]
    text = re.sub(r"<[^>]*>", " ", guide)
    assert len(text.split()) <= 200
    for mark in (
        "#",
        "≈",
        "±",
        "†",
        "Green",
        "2/3 seeds",
        "Hatched",
        "hollow",
        "Dashed",
        "bar",
        "Front",
        "Conformance",
    ):
        assert mark in text, mark


def test_a_page_names_colours_and_quantities_in_words(tiny_records):
    page = render(tiny_records)
    assert "Linear probe, ridge regression" in page
    assert 'title="ridge_probe"' in page
    assert "all training images" in page


def test_names_are_escaped_in_the_rows_that_scripts_lay_out(tiny_records):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    records = board(tiny_records[0], [f"net_{i}.weights" for i in range(100)], ("a",), 1)
    page = render([labelled(record, f"{evil} {i}") for i, record in enumerate(records)])
    held = re.search(r'<script type="application/json" class="rows"[^>]*>(.*?)</script>', page)[1]
    lines = json.loads(held)
    assert len(lines) == 100 - 60
    assert all(line.startswith("<tr ") and "&lt;script&gt;alert(1)" in line for line in lines)
    assert not [line for line in lines if "<script" in line or "<img" in line]
    assert page.count("<script>") == 1


def test_long_data_are_compressed_and_come_back():
    short, long = json.dumps({"a": "<b>"}), json.dumps(["<x>"] * 300_000)
    assert packed(short) == '{"a": "\\u003cb>"}'
    inside = json.loads(packed(long))["gzip"]
    assert len(inside) < len(long) / 50
    assert gzip.decompress(base64.b64decode(inside)).decode() == long
    assert packed(long) == packed(long)


def test_a_score_of_an_older_record_has_no_bins_of_confidence(tiny_records):
    """The dialog says so where there is a calibration error without its bins; a regression has neither."""
    by_kind = {record.score_kind: record for record in tiny_records}
    error = by_kind["votes"].further["ece"]
    older = {**by_kind["votes"].further, "ece": error.model_copy(update={"bins": ()})}

    def bins(record):
        (cell,) = json.loads(details([record]))["cells"].values()
        return cell.get("bins")

    assert bins(by_kind["votes"]) == [[n, round(mean, 4), right] for n, mean, right in error.bins if n]
    assert bins(by_kind["votes"].model_copy(update={"further": older})) == []
    assert bins(by_kind["regression"]) is None
