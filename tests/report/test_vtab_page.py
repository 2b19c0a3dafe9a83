"""A VTAB board with published rows, in a real browser: ticks, filters, links to views, copies, transposed tables."""

import csv
import io
import statistics
from pathlib import Path

import axe_core_python
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.making.boards import NAMES, VTAB, board, with_all_that_a_record_can_hold
from tests.making.chromium import MARKS, complaints, header, names, panel, started
from vitbench.engine.run import Overrides, plan_suite
from vitbench.report.build import boards
from vitbench.report.page import Extras, render

pytestmark = MARKS
AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
PUBLISHED = ("vit2021-t9",)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.fixture(scope="module")
def records(tiny_records):
    """Five backbones on all of VTAB with three seeds; one seed of one cell is missing."""
    made = board(tiny_records[0], NAMES[:5])
    return [with_all_that_a_record_can_hold(record) for i, record in enumerate(made) if i != 5]


@pytest.fixture(scope="module")
def page(tmp_path_factory, records):
    (found,) = boards(records)
    name = found.rows[0].cells[0].name
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        render(records, Extras(published=PUBLISHED, worst={name: [(PIXEL, "a cat", "<b>a dog</b>")]}))
    )
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    browser.set_window_size(1500, 1000)
    browser.get("about:blank")
    browser.get(page)
    browser.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    yield browser
    assert complaints(browser) == []


def column(browser, index):
    rows = panel(browser).find_elements(By.CSS_SELECTOR, ".board tbody tr")
    return [row.find_elements(By.CSS_SELECTOR, "td,th")[index].text for row in rows if row.is_displayed()]


def untick(browser, *tasks):
    details = panel(browser).find_element(By.CSS_SELECTOR, ".ticks")
    browser.execute_script("arguments[0].open = true", details)
    for task in tasks:
        details.find_element(By.CSS_SELECTOR, f"input[data-task='{task}']").click()


def expected_means(records, tasks):
    """By label: the mean over these tasks of the means over seeds, of backbones that have all seeds of all of them."""
    cells = {}
    for record in records:
        key = record.job.backbone.label, record.job.task.label
        cells.setdefault(key, []).append(record.metrics["top1"].value)
    labels = {label for label, _ in cells}
    whole = {b for b in labels if all(len(cells.get((b, t), ())) == 3 for t in tasks)}
    return {b: statistics.fmean(statistics.fmean(cells[b, t]) for t in tasks) for b in whole}


def test_all_of_vtab_is_there_in_its_groups(opened):
    heads = [cell.text for cell in panel(opened).find_elements(By.CSS_SELECTOR, "tr.heads td") if cell.text]
    assert heads == ["Means", "Natural", "Specialized", "Structured"]
    assert len(panel(opened).find_elements(By.CSS_SELECTOR, "thead th[data-task]")) == 19
    assert column(opened, 2)[4] == "18/19"  # the backbone that lacks a seed, after the four complete ones
    assert column(opened, 0)[:6] == ["1", "2", "3", "4", "–", "–"]


def test_means_and_ranks_are_recomputed_over_ticked_tasks(opened, records):
    off = ["vtab/cifar100", "vtab/eurosat", "vtab/dmlab"]
    untick(opened, *off)
    left = [task for task in VTAB if task not in off]
    wanted = expected_means(records, left)
    assert len(wanted) == 5  # the one with the gap is whole without cifar100
    shown = dict(zip(names(opened)[:5], zip(column(opened, 0), column(opened, 2), strict=True), strict=False))
    order = sorted(wanted, key=wanted.get, reverse=True)
    for name, mean in wanted.items():
        assert shown[name] == (str(order.index(name) + 1), f"{100 * mean:.1f}")
    natural = [task for task in left if VTAB[task] == "natural"]
    by_group = expected_means(records, natural)
    assert (
        dict(zip(names(opened), column(opened, 3), strict=True))[order[0]]
        == f"{100 * by_group[order[0]]:.1f}"
    )
    assert "eurosat" not in panel(opened).find_element(By.CSS_SELECTOR, "thead").text
    assert "16 of 19" in panel(opened).text
    next(b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "all").click()
    assert column(opened, 2)[4] == "18/19"


def test_only_one_group(opened, records):
    opened.execute_script("document.querySelector('.ticks').open = true")
    next(
        b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "only structured"
    ).click()
    wanted = expected_means(records, [task for task, group in VTAB.items() if group == "structured"])
    shown = dict(zip(names(opened), column(opened, 2), strict=True))
    assert {name: shown[name] for name in wanted} == {name: f"{100 * v:.1f}" for name, v in wanted.items()}


def test_filters_by_family_data_and_origin(opened):
    for box, value, kept in (
        ("family", "BiT", ["resnetv2_152x4_bit"]),
        ("data", "JFT-300M", ["ViT-H/14", "ViT-L/16 (JFT-300M)"]),
        ("kind", "published", ["ViT-H/14", "ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"]),
    ):
        choice = Select(opened.find_element(By.ID, box))
        choice.select_by_value(value)
        assert sorted(names(opened)) == sorted(kept)
        choice.select_by_value("")
    assert len(names(opened)) == 8


def test_the_url_restores_a_view(opened):
    untick(opened, "vtab/dtd")
    Select(opened.find_element(By.ID, "family")).select_by_value("ViT")
    opened.find_element(By.ID, "filter").send_keys("large")
    header(opened, "Natural").click()
    seen = names(opened), column(opened, 2)
    address = opened.current_url
    opened.get("about:blank")
    opened.get(address)
    assert (names(opened), column(opened, 2)) == seen
    assert Select(opened.find_element(By.ID, "family")).first_selected_option.text == "ViT"
    assert not opened.find_element(By.CSS_SELECTOR, "input[data-task='vtab/dtd']").is_selected()
    assert header(opened, "Natural").find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def copied(browser, form):
    browser.find_element(By.CSS_SELECTOR, f"[data-copy={form}]").click()
    return browser.execute_script("return window.copied")


def test_copies_hold_what_is_shown(opened, records):
    untick(opened, "vtab/dtd")
    Select(opened.find_element(By.ID, "kind")).select_by_value("measured")
    rows = list(csv.DictReader(io.StringIO(copied(opened, "csv"))))
    wanted = expected_means(records, [task for task in VTAB if task != "vtab/dtd"])
    assert [row["#"] for row in rows] == ["1", "2", "3", "4", ""]
    for row in rows:
        name = row["Backbone"]
        assert row["Mean"] == "" if name not in wanted else float(row["Mean"]) == pytest.approx(wanted[name])
        assert "dtd" not in row
        assert 0 <= float(row["svhn"]) <= 1
    lines = copied(opened, "md").splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)
    latex = copied(opened, "latex")
    assert latex.startswith("\\begin{tabular}{r")
    assert all(line.endswith("\\\\") for line in latex.splitlines()[2:] if line[0] != "\\")
    assert "vit\\_base" in latex
    assert "±" not in latex


def test_tasks_as_rows_as_in_table_2(opened):
    opened.find_element(By.ID, "across").click()
    table = panel(opened).find_element(By.CSS_SELECTOR, "table.across")
    heads = [
        cell.text.split("\n")[0].removesuffix(" published")
        for cell in table.find_elements(By.CSS_SELECTOR, "thead th")
    ]
    assert heads[:2] == ["Task", "vit_base_patch16_224"]
    lines = {
        row.find_element(By.TAG_NAME, "th").text.split("\n")[0]: row
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    }
    assert len(lines) == 5 + 19 + 5
    days = [cell.text for cell in lines["Core-days"].find_elements(By.TAG_NAME, "td")]
    assert [day for day in days if day != "–"] == ["940", "230", "2.5 k", "680", "230"]
    assert not panel(opened).find_element(By.CSS_SELECTOR, "table.board").is_displayed()
    lines["caltech101"].find_element(By.CSS_SELECTOR, "button.open").click()
    assert "on vtab/caltech101" in opened.find_element(By.CSS_SELECTOR, "dialog h2").text
    opened.find_element(By.TAG_NAME, "body").send_keys("\ue00c")
    opened.find_element(By.ID, "across").click()
    assert panel(opened).find_element(By.CSS_SELECTOR, "table.board").is_displayed()


def test_compute_is_switched_and_never_mixed(opened):
    def shown():
        drawn = opened.find_elements(By.CSS_SELECTOR, ".drawn[data-variant]")
        return [one.get_attribute("data-variant") for one in drawn if one.is_displayed()]

    assert shown() == ["A"]
    for quantity in "BCA":
        opened.find_element(By.CSS_SELECTOR, f"[data-show={quantity}]").click()
        assert shown() == [quantity]
    assert "Natural" in opened.find_element(By.CSS_SELECTOR, "figure:not(.variants) svg").get_attribute(
        "textContent"
    )


def test_a_dialog_has_seeds_trials_errors_and_the_recipe(opened, records, suite_file, tmp_path):
    panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    dialog = opened.find_element(By.ID, "record")
    titles = [title.text for title in dialog.find_elements(By.TAG_NAME, "h3")]
    assert titles[0] == "Seeds"
    assert {"Trials of seed 0", "Confusion matrix, seed 0", "Most confident errors"} <= set(titles)
    opened.execute_script("document.querySelectorAll('dialog details').forEach((d) => (d.open = true))")
    assert "class 0 class 1 40" in dialog.text.replace("\n", " ")
    assert (
        dialog.find_element(By.CSS_SELECTOR, ".image").text.replace("\n", " ")
        == "a cat predicted <b>a dog</b>"
    )
    assert dialog.find_elements(By.CSS_SELECTOR, "svg.losses path")
    next(b for b in dialog.find_elements(By.TAG_NAME, "button") if "recipe" in b.text).click()
    recipe = opened.execute_script("return window.copied")
    cell = next(
        r
        for r in records
        if r.key.startswith(
            panel(opened).find_element(By.CSS_SELECTOR, "button.open").get_attribute("data-cell")
        )
    )
    recipe = recipe.replace(
        '"vtab/caltech101"', '"digits"'
    )  # its data are not here, and the plan does not need any
    planned = plan_suite(str(suite_file(recipe)), tmp_path / "run", Overrides())
    assert [job.seed for job in planned.suite.jobs] == [0, 1, 2]
    (again, *_) = planned.suite.jobs
    assert again.backbone.spec == cell.job.backbone.spec
    assert again.protocol.options["recipe"] == "vit"
    assert (again.budget, again.measuring) == (cell.job.budget, cell.job.measuring)


@pytest.mark.parametrize(
    "state",
    ["board", "dialog", *(pytest.param(state, marks=pytest.mark.slow) for state in ("across", "dark"))],
)
def test_axe_finds_nothing_serious(opened, state):
    if state == "across":
        opened.find_element(By.ID, "across").click()
    if state == "dialog":
        panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    if state == "dark":
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        opened.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        opened.execute_script(AXE)
        found = opened.execute_async_script("axe.run().then(arguments[0])")
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:200], rule["nodes"][0]["failureSummary"])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) > 15


def test_the_keyboard_opens_and_closes_a_dialog(opened):
    button = panel(opened).find_element(By.CSS_SELECTOR, "button.open")
    button.send_keys("\ue007")
    assert opened.find_element(By.ID, "record").is_displayed()
    opened.switch_to.active_element.send_keys("\ue00c")
    assert opened.switch_to.active_element == button


def test_a_long_table_shows_more_rows_on_demand(browser, tiny_records, tmp_path):
    records = board(tiny_records[0], [f"net_{i}.weights" for i in range(80)], ("a", "b"), 1)
    page = tmp_path / "long.html"
    page.write_text(render(records))
    browser.get(page.as_uri())
    assert len(names(browser)) == 40
    assert names(browser)[0] == "net_0"
    header(browser, "Backbone").click()
    header(browser, "Backbone").click()
    assert names(browser)[0] == "net_9"
    browser.find_element(By.ID, "filter").send_keys("net_7")
    assert len(names(browser)) == 11  # of all 80, not of those laid out
    browser.find_element(By.ID, "filter").clear()
    browser.find_element(By.ID, "filter").send_keys(" ")
    assert browser.find_element(By.ID, "more").text == "Show 40 more rows"
    browser.find_element(By.ID, "more").click()
    assert len(names(browser)) == 80
    assert not browser.find_element(By.ID, "more").is_displayed()
    assert complaints(browser) == []


def test_the_url_restores_ticks_and_sort_order(opened, records):
    opened.execute_script("document.querySelector('.ticks').open = true")
    next(b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "only natural").click()
    assert [rank for rank in column(opened, 0) if rank != "–"] == sorted(
        rank for rank in column(opened, 0) if rank != "–"
    )
    header(opened, "Mean").click()
    seen = names(opened), column(opened, 2)
    means = [-1 if "/" in text else float(text) for text in seen[1]]
    assert means == sorted(means, reverse=True)
    assert set(column(opened, 6)) == {"–"}  # one group alone has no mean of three
    address = opened.current_url
    opened.get("about:blank")
    opened.get(address)
    assert (names(opened), column(opened, 2)) == seen


def test_the_page_works_with_any_fragment(browser, page):
    for fragment in ("#/%E0%A4%A", "#/nothing?sort=99z&off=x", "#?=&&", "#/board-x?filter=a%26b"):
        browser.get("about:blank")
        browser.get(page + fragment)
        assert len(names(browser)) == (0 if "filter" in fragment else 8)
        assert complaints(browser) == []
    assert browser.find_element(By.ID, "filter").get_attribute("value") == "a&b"
