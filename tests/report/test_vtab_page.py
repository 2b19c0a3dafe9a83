"""A VTAB board with published rows, in a real browser: ticks, filters, links to views, copies, transposed tables."""

import csv
import io
import re
import statistics

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.making.accessibility import small_targets, violations
from tests.making.boards import NAMES, VTAB, board, with_all_that_a_record_can_hold
from tests.making.chromium import MARKS, at_width, complaints, header, names, opened_menu, panel, started
from vitbench.engine.run import Overrides, plan_suite
from vitbench.report.build import boards
from vitbench.report.page import Extras, render

pytestmark = MARKS
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


COLUMN = """
const table = document.querySelector(".panel:not([hidden]) .board");
const at = [...table.tHead.rows[table.tHead.rows.length - 1].cells].findIndex((cell) => cell.dataset.key === arguments[0]);
return [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.split("\\n")[0].replace(" ≈", "").trim());
"""


def column(browser, key):
    """The first line of each shown row's cell: a rank, a mean, a score."""
    return browser.execute_script(COLUMN, key)


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


def unfold(browser, *groups):
    for group in groups:
        panel(browser).find_element(By.CSS_SELECTOR, f"[data-fold-of={group}]").click()


def heads(browser):
    return [
        cell.get_attribute("data-key")
        for cell in panel(browser).find_elements(By.CSS_SELECTOR, ".board thead th")
        if cell.is_displayed()
    ]


def test_all_of_vtab_is_there_in_groups_that_fold(opened):
    first = ["rank", "backbone", "mean", "core_days", "flops", "time", "params", "front"]
    groups = ["natural", "specialized", "structured"]
    assert heads(opened) == [*first, *groups, "group_mean", "conformance"]
    unfold(opened, *groups)
    assert len([key for key in heads(opened) if key.startswith("task:")]) == 19
    over = panel(opened).find_elements(By.CSS_SELECTOR, "tr.heads td[data-tasks]")
    assert [(cell.text, cell.get_attribute("colspan")) for cell in over] == [
        ("Natural", "7"), ("Specialized", "4"), ("Structured", "8"),
    ]  # fmt: skip
    unfold(opened, "natural")
    assert len([key for key in heads(opened) if key.startswith("task:")]) == 12
    opened.back()
    assert len([key for key in heads(opened) if key.startswith("task:")]) == 19
    assert (
        column(opened, "mean")[4] == "18/19"
    )  # the backbone that lacks a seed, after the four complete ones
    assert column(opened, "rank")[:6] == ["1", "2", "3", "4", "–", "–"]


def test_a_row_with_gaps_is_ranked_on_what_all_have_if_one_likes(opened, records):
    said = panel(opened).find_element(By.CSS_SELECTOR, ".gaps").text
    assert "Incomplete, not ranked: vit_large_patch16_224 (lacks vtab/cifar100: 2 of 3 seeds)." in said
    panel(opened).find_element(By.CSS_SELECTOR, "[data-common-tasks]").click()
    wanted = expected_means(records, [task for task in VTAB if task != "vtab/cifar100"])
    order = sorted(wanted, key=wanted.get, reverse=True)
    assert names(opened)[:5] == order
    assert order[0] == "vit_large_patch16_224"
    assert column(opened, "rank")[:5] == ["1", "2", "3", "4", "5"]
    assert column(opened, "mean")[:5] == [f"{100 * wanted[name]:.1f}" for name in order]
    assert "over 18 tasks" in header(opened, "Mean").find_element(By.XPATH, "..").text
    opened.back()
    assert column(opened, "mean")[4] == "18/19"


def test_rows_are_filtered_by_numbers_and_the_front(opened):
    opened_menu(opened, "filters")
    opened.find_element(By.CSS_SELECTOR, "[data-bound=params][data-end='0']").send_keys("300")
    assert set(names(opened)) == {"ViT-H/14", "ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"}
    opened.find_element(By.CSS_SELECTOR, "[data-bound=params][data-end='1']").send_keys("400")
    assert set(names(opened)) == {"ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"}
    assert "params=300..400" in opened.current_url
    opened.find_element(By.ID, "clear").click()
    assert len(names(opened)) == 8
    Select(opened.find_element(By.ID, "front")).select_by_value("A")
    assert set(names(opened)) == {"ViT-H/14", "ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"}


def test_what_is_unknown_comes_last_whichever_way(opened):
    for _ in range(2):
        header(opened, "Core-days").click()
        days = column(opened, "core_days")
        assert days[-3:] == ["–"] * 3
        assert "–" not in days[:-3]
    assert days[0] == "230"


def test_heading_and_first_column_stay_in_view(opened):
    unfold(opened, "natural", "specialized", "structured")
    box = panel(opened).find_element(By.CSS_SELECTOR, ".scroll")
    opened.execute_script("arguments[0].scrollTo(600, 120)", box)
    left, top = opened.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]", box
    )
    place = "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]"
    name = panel(opened).find_element(By.CSS_SELECTOR, ".board tbody tr:nth-child(6) th")
    assert left <= opened.execute_script(place, name)[0] < left + 80
    for key in ("backbone", "task:vtab/dtd"):
        head = panel(opened).find_element(By.CSS_SELECTOR, f"th[data-key='{key}']")
        assert top <= opened.execute_script(place, head)[1] < top + 80


def test_scores_are_shaded_between_the_lowest_and_the_highest_of_their_task(opened):
    unfold(opened, "natural")
    opened_menu(opened, "view").find_element(By.ID, "heat").click()
    at = heads(opened).index("task:vtab/dtd")
    rows = panel(opened).find_elements(By.CSS_SELECTOR, ".board tbody tr")
    script = (
        "const cell = arguments[0].cells[arguments[1]];"
        "return [cell.dataset.value, cell.style.getPropertyValue('--place')]"
    )
    places = sorted(
        (float(value), float(place))
        for value, place in (opened.execute_script(script, row, at) for row in rows)
    )
    assert places[0][1] == 0
    assert places[-1][1] == 1
    assert [place for _, place in places] == sorted(place for _, place in places)


def test_columns_are_hidden_and_copied_tables_lack_them(opened):
    menu = opened_menu(opened, "columns")
    menu.find_element(By.CSS_SELECTOR, "[data-column=time]").click()
    assert "time" not in heads(opened)
    assert "Time" not in copied(opened, "csv").splitlines()[0]
    assert "hide=time" in opened.current_url


def points(browser):
    return {
        point.get_attribute("data-name")
        for point in panel(browser).find_elements(By.CSS_SELECTOR, ".scatter .point")
    }


def test_the_chart_follows_filters_and_ticks(opened):
    measured = set(names(opened)[:4])
    assert points(opened) == measured
    opened.find_element(By.CSS_SELECTOR, "[data-cost=A]").click()
    assert len(points(opened)) == 4  # three published, and the measured one with published core-days
    untick(opened, "vtab/cifar100")
    assert "vit_large_patch16_224" in points(opened)
    Select(opened_menu(opened, "filters").find_element(By.ID, "family")).select_by_value("BiT")
    assert points(opened) == {"resnetv2_152x4_bit"}
    title = panel(opened).find_element(By.CSS_SELECTOR, ".scatter title").get_attribute("textContent")
    assert title.startswith("resnetv2_152x4_bit: ")
    assert "95 % interval" in title


def test_paper_has_all_columns_of_vtab(opened):
    """Folded tasks and costs, too; 1069 pixels are A4 across, without margins."""
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    at_width(opened, 1069)
    try:
        assert len(heads(opened)) == 8 + 4 + 19 + 1
        assert opened.execute_script("return document.querySelector('.panel .board').scrollWidth") <= 1069
        over = [cell.text for cell in opened.find_elements(By.CSS_SELECTOR, "tr.heads td[data-tasks]")]
        assert over == ["Natural", "Specialized", "Structured"]
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_backbones_are_compared_side_by_side(opened, records):
    chosen = names(opened)[1], names(opened)[3]
    for name in chosen:
        row = next(
            r for r in panel(opened).find_elements(By.CSS_SELECTOR, ".board tbody tr") if name in r.text
        )
        row.find_element(By.CSS_SELECTOR, ".pick-row").click()
    opened.find_element(By.CSS_SELECTOR, "#chosen button").click()
    dialog = opened.find_element(By.ID, "comparison")
    assert dialog.find_element(By.TAG_NAME, "h2").text == " / ".join(chosen)
    means = expected_means(records, list(VTAB))
    lines = {
        row.find_element(By.TAG_NAME, "th").text: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in dialog.find_elements(By.CSS_SELECTOR, "tbody tr")
    }
    gap = 100 * (means[chosen[1]] - means[chosen[0]])
    assert lines["Mean"][2].split("\n")[0] == f"{gap:+.1f}".replace("-", "−")
    assert " to " in lines["Mean"][2]
    assert "behind on 19, significantly on" in dialog.text
    assert len(lines) == 1 + 6 + 4 + 19 + 1
    address = opened.current_url
    opened.back()
    assert not dialog.is_displayed()
    opened.get("about:blank")
    opened.get(address)
    WebDriverWait(opened, 10).until(lambda _: opened.find_element(By.ID, "comparison").is_displayed())


OVERLAPS = """
const texts = document.querySelectorAll(".panel:not([hidden]) .scatter .label");
const boxes = [...texts].map((text) => text.getBoundingClientRect());
const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
return [boxes.length, boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => over(a, b))).length];
"""


def test_names_in_the_chart_do_not_overlap(browser, tiny_records, tmp_path):
    records = board(
        tiny_records[0], [f"a network {i}.weights{'x' * (i % 7)}" for i in range(30)], ("a", "b"), 1
    )
    page = tmp_path / "thirty.html"
    page.write_text(render(records))
    browser.get(page.as_uri())
    assert len(points(browser)) == 30
    shown, overlapping = browser.execute_script(OVERLAPS)
    assert shown >= 20
    assert overlapping == 0


def test_a_chart_is_saved_as_svg_and_png(opened, browser, tmp_path):
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    for button in panel(opened).find_elements(By.CSS_SELECTOR, ".chart .saves button"):
        button.click()
    opened_menu(opened, "copies").find_element(By.CSS_SELECTOR, "[data-save=csv]").click()
    wanted = {"finetune-1k.cost.svg": b"<svg", "finetune-1k.cost.png": b"\x89PNG", "finetune-1k.csv": b"#,"}
    WebDriverWait(browser, 10).until(lambda _: {path.name for path in tmp_path.iterdir()} == set(wanted))
    for name, start in wanted.items():
        assert (tmp_path / name).read_bytes().startswith(start), name


def test_means_and_ranks_are_recomputed_over_ticked_tasks(opened, records):
    off = ["vtab/cifar100", "vtab/eurosat", "vtab/dmlab"]
    untick(opened, *off)
    left = [task for task in VTAB if task not in off]
    wanted = expected_means(records, left)
    assert len(wanted) == 5  # the one with the gap is whole without cifar100
    shown = dict(
        zip(names(opened)[:5], zip(column(opened, "rank"), column(opened, "mean"), strict=True), strict=False)
    )
    order = sorted(wanted, key=wanted.get, reverse=True)
    for name, mean in wanted.items():
        assert shown[name] == (str(order.index(name) + 1), f"{100 * mean:.1f}")
    natural = [task for task in left if VTAB[task] == "natural"]
    by_group = expected_means(records, natural)
    assert (
        dict(zip(names(opened), column(opened, "natural"), strict=True))[order[0]]
        == f"{100 * by_group[order[0]]:.1f}"
    )
    assert "eurosat" not in panel(opened).find_element(By.CSS_SELECTOR, "thead").text
    assert "16 of 19" in panel(opened).text
    next(b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "all").click()
    assert column(opened, "mean")[4] == "18/19"


def test_only_one_group(opened, records):
    opened.execute_script("document.querySelector('.ticks').open = true")
    next(
        b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "only structured"
    ).click()
    wanted = expected_means(records, [task for task, group in VTAB.items() if group == "structured"])
    shown = dict(zip(names(opened), column(opened, "mean"), strict=True))
    assert {name: shown[name] for name in wanted} == {name: f"{100 * v:.1f}" for name, v in wanted.items()}


def test_filters_by_family_data_and_origin(opened):
    for box, value, kept in (
        ("family", "BiT", ["resnetv2_152x4_bit"]),
        ("data", "JFT-300M", ["ViT-H/14", "ViT-L/16 (JFT-300M)"]),
        ("kind", "published", ["ViT-H/14", "ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"]),
    ):
        choice = Select(opened_menu(opened, "filters").find_element(By.ID, box))
        choice.select_by_value(value)
        assert sorted(names(opened)) == sorted(kept)
        choice.select_by_value("")
    assert len(names(opened)) == 8


def test_the_url_restores_a_view(opened):
    untick(opened, "vtab/dtd")
    Select(opened_menu(opened, "filters").find_element(By.ID, "family")).select_by_value("ViT")
    opened.find_element(By.ID, "filter").send_keys("large")
    header(opened, "Natural").click()
    seen = names(opened), column(opened, "mean")
    address = opened.current_url
    opened.get("about:blank")
    opened.get(address)
    assert (names(opened), column(opened, "mean")) == seen
    assert opened.find_element(By.ID, "family").get_attribute("value") == "ViT"
    assert not opened.find_element(By.CSS_SELECTOR, "input[data-task='vtab/dtd']").is_selected()
    assert header(opened, "Natural").find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def copied(browser, form):
    opened_menu(browser, "copies").find_element(By.CSS_SELECTOR, f"[data-copy={form}]").click()
    return browser.execute_script("return window.copied")


def test_copies_hold_what_is_shown(opened, records):
    unfold(opened, "natural", "specialized", "structured")
    untick(opened, "vtab/dtd")
    Select(opened_menu(opened, "filters").find_element(By.ID, "kind")).select_by_value("measured")
    rows = list(csv.DictReader(io.StringIO(copied(opened, "csv"))))
    wanted = expected_means(records, [task for task in VTAB if task != "vtab/dtd"])
    assert [row["#"] for row in rows] == ["1", "2", "3", "4", ""]
    for row in rows:
        name = row["Backbone"]
        assert row["Mean"] == "" if name not in wanted else float(row["Mean"]) == pytest.approx(wanted[name])
        assert "dtd" not in row
        assert 0 <= float(row["svhn"]) <= 1
        assert 0 < float(row["svhn ±"]) < 0.05
    lines = copied(opened, "md").splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)
    latex = copied(opened, "latex")
    assert latex.startswith("\\begin{tabular}{r")
    assert all(line.endswith("\\\\") for line in latex.splitlines()[2:] if line[0] != "\\")
    assert "vit\\_base" in latex
    assert "±" not in latex
    assert "$\\pm$" in latex
    assert latex.count("\\textbf{") == 18 + 1  # the best score of each task, and the best mean
    untick(opened, "vtab/dtd")
    assert "\\textbf{" in copied(opened, "latex").splitlines()[4].split(" & ")[2]  # the best mean
    whole = list(csv.DictReader(io.StringIO(copied(opened, "csv"))))
    assert float(whole[0]["Mean low"]) < float(whole[0]["Mean"]) < float(whole[0]["Mean high"])


def test_tables_are_copied_over_plain_http(opened):
    """Where browsers give a page no clipboard."""
    opened.execute_script(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
        "document.addEventListener('copy', () => { window.copied = document.activeElement.value; });"
    )
    opened_menu(opened, "copies").find_element(By.CSS_SELECTOR, "[data-copy=md]").click()
    assert opened.execute_script("return window.copied").startswith("| \\# | Backbone | Mean ")


def test_tasks_as_rows_as_in_table_2(opened):
    unfold(opened, "natural", "specialized", "structured")
    opened_menu(opened, "view").find_element(By.ID, "across").click()
    opened.find_element(By.TAG_NAME, "h1").click()  # closes the menu
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
    assert len(lines) == 6 + 4 + 19 + 1, list(lines)
    days = [cell.text.split("\n")[0] for cell in lines["Core-days"].find_elements(By.TAG_NAME, "td")]
    assert [day for day in days if day != "–"] == ["940", "230", "2.5 k", "680", "230"]
    assert not panel(opened).find_element(By.CSS_SELECTOR, "table.board").is_displayed()
    lines["caltech101"].find_element(By.CSS_SELECTOR, "button.open").click()
    assert "on vtab/caltech101" in opened.find_element(By.CSS_SELECTOR, "dialog h2").text
    opened.find_element(By.TAG_NAME, "body").send_keys("\ue00c")
    opened_menu(opened, "view").find_element(By.ID, "across").click()
    assert panel(opened).find_element(By.CSS_SELECTOR, "table.board").is_displayed()


def test_compute_is_switched_and_never_mixed(opened):
    def shown():
        return panel(opened).find_element(By.CSS_SELECTOR, ".scatter .title").text

    for quantity, title in {"A": "pre-training", "B": "forward pass, GFLOPs", "C": "device-seconds"}.items():
        opened.find_element(By.CSS_SELECTOR, f"[data-cost={quantity}]").click()
        assert shown().startswith(title)
    opened.back()
    assert shown().startswith("forward pass")
    others = panel(opened).find_element(By.CSS_SELECTOR, ".panel > figure svg")
    assert "Natural" in others.get_attribute("textContent")


def pooled_bins(records, name):
    """Of the cell of this name: accuracy in percent, images and mean confidence in percent of each bin, over all seeds."""
    job = next(r.job for r in records if r.key.startswith(name))
    own = [
        r for r in records if (r.job.backbone.label, r.job.task.label) == (job.backbone.label, job.task.label)
    ]
    bins = np.array([r.further["ece"].bins for r in own])
    images, right = bins[..., 0].sum(0), bins[..., 2].sum(0)
    confidence = (bins[..., 0] * bins[..., 1]).sum(0)
    return [[100 * k / n, n, 100 * c / n] for n, k, c in zip(images, right, confidence, strict=True) if n]


def test_a_dialog_has_seeds_trials_errors_and_the_recipe(opened, records, suite_file, tmp_path):
    unfold(opened, "natural")
    panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    dialog = opened.find_element(By.ID, "record")
    titles = [title.text for title in dialog.find_elements(By.TAG_NAME, "h3")]
    assert titles[0] == "Seeds"
    assert {"Trials of seed 0", "Confusion matrix, seed 0", "Most confident errors"} <= set(titles)
    opened.execute_script("document.querySelectorAll('dialog details').forEach((d) => (d.open = true))")
    assert "Calibration" in titles
    points = dialog.find_elements(By.CSS_SELECTOR, "svg.reliability circle title")
    said = [re.findall(r"[\d.]+", point.get_attribute("textContent")) for point in points]
    wanted = pooled_bins(
        records, panel(opened).find_element(By.CSS_SELECTOR, "button.open").get_attribute("data-cell")
    )
    assert [[float(number) for number in own] for own in said] == [
        pytest.approx(own, abs=0.06) for own in wanted
    ]
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


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("state", ["board", "dialog", "across", "dark", "heat", "menus", "comparison"])
def test_axe_finds_nothing(opened, state, width):
    """With all menus and details open."""
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if state == "dark" else "light"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    at_width(opened, width)
    try:
        unfold(opened, "natural", "specialized", "structured")
        opened.execute_script(
            "document.querySelectorAll('details:not(.menu)').forEach((d) => (d.open = true))"
        )
        if state in ("across", "heat"):
            opened_menu(opened, "view").find_element(By.ID, state).click()
        if state == "menus":
            opened.execute_script("document.querySelectorAll('details.menu').forEach((d) => (d.open = true))")
        if state == "comparison":
            for box in panel(opened).find_elements(By.CSS_SELECTOR, ".pick-row")[:2]:
                opened.execute_script("arguments[0].click()", box)
            opened.execute_script("document.querySelector('#chosen button').click()")
        if state == "dialog":
            panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
        found, small = violations(opened), small_targets(opened)
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (found, small) == ([], [])


def test_the_keyboard_opens_and_closes_a_dialog(opened):
    unfold(opened, "natural")
    button = panel(opened).find_element(By.CSS_SELECTOR, "button.open")
    button.send_keys("\ue007")
    assert opened.find_element(By.ID, "record").is_displayed()
    opened.switch_to.active_element.send_keys("\ue00c")
    assert opened.switch_to.active_element == button


def test_a_dialog_has_an_address_and_back_closes_it(opened):
    unfold(opened, "natural")
    panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    dialog = opened.find_element(By.ID, "record")
    title, address = dialog.find_element(By.TAG_NAME, "h2").text, opened.current_url
    opened.back()
    assert not dialog.is_displayed()
    opened.forward()
    assert dialog.find_element(By.TAG_NAME, "h2").text == title
    opened.get("about:blank")
    opened.get(address)
    assert opened.find_element(By.CSS_SELECTOR, "#record h2").text == title


@pytest.mark.slow
def test_a_long_table_lays_out_the_rows_in_view(browser, tiny_records, tmp_path):
    records = board(tiny_records[0], [f"net_{i}.weights" for i in range(200)], ("a", "b"), 1)
    page = tmp_path / "long.html"
    page.write_text(render(records))
    browser.get(page.as_uri())
    assert names(browser)[0] == "net_0"
    assert 20 < len(names(browser)) < 100
    header(browser, "Backbone").click()
    header(browser, "Backbone").click()
    assert names(browser)[0] == "net_99"
    browser.execute_script("document.querySelector('.panel:not([hidden]) .scroll').scrollTop = 1e6")
    WebDriverWait(browser, 10).until(lambda _: names(browser)[-1] == "net_0")
    browser.find_element(By.ID, "filter").send_keys("net_7")
    assert len(names(browser)) == 11  # of all 200, not of those laid out
    assert browser.find_element(By.ID, "shown").text == "11 of 200 rows"
    assert complaints(browser) == []


@pytest.mark.slow
def test_the_page_of_a_large_board_is_small(tiny_records):
    records = board(tiny_records[0], [f"net_{i}.weights" for i in range(500)], tuple(VTAB), 1)
    page = render(records)
    assert len(page.encode()) < 4_000_000
    assert page.count('<tr data-search="net_499') == 1  # in the list of conformance


def test_the_url_restores_ticks_and_sort_order(opened, records):
    opened.execute_script("document.querySelector('.ticks').open = true")
    next(b for b in opened.find_elements(By.CSS_SELECTOR, "[data-only]") if b.text == "only natural").click()
    assert [int(rank) for rank in column(opened, "rank") if rank != "–"] == sorted(
        int(rank) for rank in column(opened, "rank") if rank != "–"
    )
    header(opened, "Mean").click()
    seen = names(opened), column(opened, "mean")
    means = [-1 if not text.replace(".", "").isdigit() else float(text) for text in seen[1]]
    assert means == sorted(means, reverse=True)
    assert set(column(opened, "group_mean")) == {"–"}  # one group alone has no mean of three
    address = opened.current_url
    opened.get("about:blank")
    opened.get(address)
    assert (names(opened), column(opened, "mean")) == seen


def test_the_page_works_with_any_fragment(browser, page):
    for fragment in ("#/%E0%A4%A", "#/nothing?sort=99z&off=x", "#?=&&", "#/board-x?filter=a%26b"):
        browser.get("about:blank")
        browser.get(page + fragment)
        assert len(names(browser)) == (0 if "filter" in fragment else 8)
        assert complaints(browser) == []
    assert browser.find_element(By.ID, "filter").get_attribute("value") == "a&b"
