"""Charts below the tables show what filters and ticks leave, and say so: VTAB groups, seeds, shots, pre-training, heat map."""

import statistics
from itertools import pairwise

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.making.boards import NAMES, VTAB, board
from tests.making.chromium import MARKS, complaints, header, names, opened_menu, panel, started
from vitbench.report.build import boards
from vitbench.report.page import Extras, render

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def opened(browser, path, records, **extras):
    path = path / "report.html"
    path.write_text(render(records, Extras(**extras)))
    browser.set_window_size(1500, 1000)
    browser.get("about:blank")
    browser.get(path.as_uri())
    assert complaints(browser) == []


@pytest.fixture
def vtab(browser, tmp_path, tiny_records):
    """Five backbones on VTAB beside published rows."""
    records = board(tiny_records[0], NAMES[:5])
    opened(browser, tmp_path, records, published=("vit2021-t9",))
    return records


@pytest.fixture
def shots(browser, tmp_path, tiny_records):
    """Four backbones on two tasks at three budgets, with three seeds; pre-training FLOPs of each are known."""
    records = [
        record
        for k, budget in enumerate(("1-shot", "5-shot", "10-shot"))
        for record in board(tiny_records[0], NAMES[2:6], ("digits", "vtab/dtd"), budget=budget)
        for record in [_scaled(record, k)]
    ]
    opened(browser, tmp_path, records)
    return records


def _scaled(record, k):
    """Better with more shots; the FLOPs of pre-training follow the order of the names."""
    better = min(record.metrics["top1"].value + 0.02 * k, 1)
    flops = 1e18 * [name.partition(".")[0] for name in NAMES].index(record.job.backbone.label)
    metric = record.metrics["top1"].model_copy(update={"value": better, "ci_high": 1.0})
    facts = record.backbone.model_copy(update={"pretrain_flops": flops})
    return record.model_copy(update={"metrics": {"top1": metric}, "backbone": facts})


CHART = """
const figure = [...document.querySelectorAll(`figure.live[data-chart="${arguments[0]}"]`)].find((f) => !f.closest("[hidden]"));
const panels = figure.querySelectorAll(".panel-title");
return {
  titles: [...panels].map((text) => text.textContent),
  points: [...figure.querySelectorAll(".drawn svg .point")].map((g) => [g.dataset.name, g.querySelector("title").textContent]),
  labels: [...figure.querySelectorAll(".drawn .label")].map((text) => text.textContent),
  said: figure.querySelector(".key").textContent,
  ticks: [...figure.querySelectorAll(".drawn text:not(.label, .panel-title)")].map((text) => text.textContent),
};
"""


def chart(browser, name):
    return browser.execute_script(CHART, name)


def choose(browser, box, value):
    Select(opened_menu(browser, "filters").find_element(By.ID, box)).select_by_value(value)


def untick(browser, task):
    browser.execute_script("for (const d of document.querySelectorAll('.ticks')) d.open = true")
    panel(browser).find_element(By.CSS_SELECTOR, f".ticks input[data-task='{task}']").click()


def test_groups_have_a_panel_each_with_the_numbers_of_the_table(browser, vtab):
    found = chart(browser, "groups")
    assert found["titles"] == ["VTAB, 19 tasks", "Natural", "Specialized", "Structured"]
    (own,) = boards(vtab)
    row = own.rows[0]
    low, high = row.interval.low, row.interval.high
    said = f"{row.backbone}: {row.mean:.1%}, 95 % interval {low:.1%} to {high:.1%}".replace(
        "%", " %"
    ).replace("95  %", "95 %")
    assert [row.backbone, said] in found["points"]
    assert "Shown:" not in found["said"]
    assert "Grey bars: 95 % intervals" in found["said"]


def test_what_filters_leave_out_is_gone_with_its_name(browser, vtab):
    before = chart(browser, "groups")
    assert {"ViT-H/14", "resnetv2_152x4_bit"} <= set(before["labels"])
    choose(browser, "family", "BiT")
    found = chart(browser, "groups")
    assert {name for name, _ in found["points"]} == {"resnetv2_152x4_bit"} == set(found["labels"])
    assert "Shown: 1 of 8 backbones." in found["said"]
    assert found["ticks"] != before["ticks"]  # axes are those of what is shown
    browser.find_element(By.ID, "clear").click()
    assert chart(browser, "groups") == before


def test_group_means_are_over_the_ticked_tasks(browser, vtab):
    untick(browser, "vtab/dtd")
    found = chart(browser, "groups")
    natural = [task for task, group in VTAB.items() if group == "natural" and task != "vtab/dtd"]
    name = names(browser)[0]
    scores = [
        statistics.fmean(
            r.metrics["top1"].value for r in vtab if (r.job.backbone.label, r.job.task.label) == (name, task)
        )
        for task in natural
    ]
    wanted = f"{name}: {100 * statistics.fmean(scores):.1f} %"
    assert [text for own, text in found["points"] if own == name][1].startswith(wanted)
    assert found["titles"][0] == "18 tasks"
    assert "Shown: 18 of 19 tasks." in found["said"]


def test_rows_are_in_the_order_of_the_table(browser, vtab):
    header(browser, "Backbone").click()
    assert chart(browser, "groups")["labels"] == names(browser)


def test_seeds_follow_filters_and_ticks(browser, shots):
    found = chart(browser, "seeds")
    assert found["titles"] == ["digits", "dtd"]
    assert len(found["points"]) == 8
    ticks = "return document.querySelectorAll('.panel:not([hidden]) [data-chart=seeds] .seed').length"
    assert browser.execute_script(ticks) == 8 * 3
    browser.find_element(By.ID, "filter").send_keys("huge")
    untick(browser, "digits")
    found = chart(browser, "seeds")
    assert (found["titles"], len(found["points"])) == (["dtd"], 1)
    assert "Shown: 1 of 4 backbones, 1 of 2 tasks." in found["said"]
    assert browser.execute_script(ticks) == 3


def scores_of(records, name, budget, task="digits"):
    """The scores of all seeds."""
    wanted = name, task, budget
    jobs = [(r, r.job) for r in records]
    return [
        r.metrics["top1"].value
        for r, job in jobs
        if (job.backbone.label, job.task.label, job.budget) == wanted
    ]


def test_curves_over_shots_follow_filters_and_ticks(browser, shots):
    found = chart(browser, "shots")
    assert len(found["titles"]) == 2
    assert len(found["points"]) == 8
    assert len(found["labels"]) == 8
    values = scores_of(shots, "vit_huge_patch14_224", "1-shot")
    said = [text for name, text in found["points"] if name == "vit_huge_patch14_224"]
    assert f": {100 * statistics.fmean(values):.1f} % ({100 * min(values):.1f} % to " in said[0]
    choose(browser, "family", "ViT")
    untick(browser, "vtab/dtd")
    found = chart(browser, "shots")
    assert [title.split(" · ")[0] for title in found["titles"]] == ["digits"]
    assert (
        {name for name, _ in found["points"]}
        == set(found["labels"])
        == {"vit_base_patch32_224", "vit_huge_patch14_224"}
    )
    assert "Shown: 2 of 4 backbones, 1 of 2 tasks." in found["said"]


def test_curves_over_pre_training_follow_filters_and_ticks(browser, shots):
    found = chart(browser, "pretraining")
    assert len(found["titles"]) == 3
    assert {name for name, _ in found["points"]} == {"ViT", "BiT"}
    untick(browser, "vtab/dtd")
    choose(browser, "family", "ViT")
    found = chart(browser, "pretraining")
    assert {name for name, _ in found["points"]} == {"ViT"}
    assert "Shown: 6 of 12 means, 1 of 2 tasks." in found["said"]
    budgets = [title.rsplit(" · ", 1)[1] for title in found["titles"]]
    for budget, (_, said) in zip(budgets, found["points"], strict=True):
        name, _, percent = said.partition(": ")
        values = scores_of(shots, name, budget)
        assert percent == f"{100 * statistics.fmean(values):.1f} %"


def test_names_at_the_ends_of_curves_do_not_overlap(browser, shots):
    tops = browser.execute_script(
        "const texts = [...document.querySelectorAll('[data-chart=shots] .label')];"
        "return texts.map((text) => [text.getAttribute('x'), text.getAttribute('y')])"
    )
    for x in {x for x, _ in tops}:
        heights = sorted(float(y) for own, y in tops if own == x)
        assert all(b - a >= 12.9 for a, b in pairwise(heights))


def test_the_heat_map_is_shaded_among_the_rows_that_are_shown(browser, vtab):
    opened_menu(browser, "view").find_element(By.ID, "heat").click()
    shades = (
        "return [...document.querySelectorAll('.board tbody td[data-cell-of], .board tbody td')]"
        ".filter((td) => td.style.getPropertyValue('--place')).map((td) => Number(td.style.getPropertyValue('--place')))"
    )
    assert {0, 1} <= set(browser.execute_script(shades))
    choose(browser, "family", "BiT")
    assert set(browser.execute_script(shades)) == {0.5}


def test_paper_has_the_charts_of_every_board(browser, shots):
    """As wide as on the screen, though only one of the boards is shown there, and of the rows that filters leave."""
    choose(browser, "family", "ViT")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    found = browser.execute_script(
        "return [...document.querySelectorAll('[data-chart=seeds] .drawn svg')]"
        ".map((svg) => [svg.viewBox.baseVal.width, svg.querySelectorAll('.point').length])"
    )
    assert len(found) == 3
    assert {width for width, _ in found} == {found[0][0]}
    assert found[0][0] > 400
    assert {points for _, points in found} == {2 * 2}
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(chart(browser, "seeds")["points"]) == 4
