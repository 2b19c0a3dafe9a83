"""axe-core, targets and widths: on every tab of a page of several settings, in dialogs, and on the page of published rows."""

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.making.accessibility import small_targets, violations
from tests.making.boards import calibration
from tests.making.chromium import MARKS, at_width, choose, complaints, panel, started
from vitbench.report.page import render

pytestmark = MARKS
TABS = ("ridge_probe · full", "ridge_probe · 2-shot", "knn · full", "overview")
PAPER = Path(__file__).parents[2] / "reports" / "paper" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def copies(record):
    """The record of two backbones, with a reliability curve where its scores are probabilities."""
    for label in ("alpha", "beta"):
        backbone = record.job.backbone.model_copy(update={"label": label, "name": label})
        job = record.job.model_copy(update={"backbone": backbone})
        kept = {"ece": calibration(record.key)} if record.further["ece"].value is not None else {}
        yield record.model_copy(update={"job": job, "key": job.key, "further": {**record.further, **kept}})


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_records):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render([each for record in tiny_records for each in copies(record)]))
    return path.as_uri()


@pytest.fixture(params=[1440, 390])
def opened(browser, page, request):
    at_width(browser, request.param)
    browser.get("about:blank")
    browser.get(page)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []


def everything_open(browser):
    browser.execute_script(
        "for (const details of document.querySelectorAll('details:not(.menu)')) details.open = true"
    )


def width_beyond(browser):
    return browser.execute_script("return document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize(
    "tab", [pytest.param(tab, marks=[pytest.mark.slow] * tab.startswith("ridge_probe")) for tab in TABS]
)
def test_axe_finds_nothing_on_any_tab(opened, tab):
    choose(opened, tab)
    everything_open(opened)
    assert (violations(opened), small_targets(opened)) == ([], [])
    assert width_beyond(opened) <= 0


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["knn · full", "ridge_probe · full"])
@pytest.mark.parametrize("dialog", ["record", "comparison"])
def test_axe_finds_nothing_in_dialogs(opened, tab, dialog):
    choose(opened, tab)
    if dialog == "record":
        panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    else:
        for box in panel(opened).find_elements(By.CSS_SELECTOR, ".pick-row"):
            box.click()
        opened.find_element(By.CSS_SELECTOR, "#chosen button").click()
    shown = opened.find_element(By.ID, dialog)
    assert shown.is_displayed()
    assert ("Calibration" in shown.text) == (dialog == "record" and tab.startswith("knn"))
    everything_open(opened)
    assert (violations(opened), small_targets(opened)) == ([], [])
    box = shown.rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= opened.execute_script("return innerWidth")
    outside = opened.execute_script(
        "const dialog = arguments[0]; return dialog.scrollWidth - dialog.clientWidth", shown
    )
    assert outside <= 0


@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_on_the_page_of_published_rows(browser, width):
    at_width(browser, width)
    browser.get(PAPER.as_uri())
    assert (violations(browser), small_targets(browser), complaints(browser)) == ([], [], [])
    assert width_beyond(browser) <= 0
