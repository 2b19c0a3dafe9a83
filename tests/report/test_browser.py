"""The page in a real browser, opened from disk."""

import re
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.making.chromium import (
    MARKS,
    at_width,
    choose,
    complaints,
    header,
    names,
    opened_menu,
    panel,
    started,
)
from vitbench.report.page import Extras, render

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def relabelled(record, label, value, **facts):
    backbone = record.job.backbone.model_copy(update={"label": label, "name": label})
    metric = record.metrics["top1"].model_copy(update={"value": value})
    job = record.job.model_copy(update={"backbone": backbone})
    known = record.backbone.model_copy(update=facts)
    return record.model_copy(
        update={"job": job, "key": job.key, "metrics": {"top1": metric}, "backbone": known}
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_records):
    """Three backbones in three settings, one of them untrained, one with a malicious name."""
    records = [
        relabelled(record, label, value, family=family, weights=weights)
        for record in tiny_records
        for label, value, family, weights in (
            ("Beta", 0.31, "ViT", "untrained"),
            ("alpha", 0.52, "BiT", "pretrained"),
            ("<img src=x onerror=alert(1)>", 0.4, "CNN", "none"),
        )
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(records))
    return path


@pytest.fixture
def opened(browser, page):
    browser.set_window_size(1300, 900)
    browser.get(Path(page).as_uri())
    yield browser
    assert complaints(browser) == []


def test_the_board_is_ranked_and_sorts_both_ways(opened):
    choose(opened, "ridge_probe · full")
    assert names(opened) == ["alpha", "<img src=x onerror=alert(1)>", "Beta"]
    header(opened, "Mean").click()
    assert names(opened)[0] == "alpha"
    header(opened, "Mean").click()
    assert names(opened)[0] == "Beta"
    assert header(opened, "Mean").find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    header(opened, "Backbone").click()
    assert names(opened) == ["<img src=x onerror=alert(1)>", "alpha", "Beta"]


def test_the_filter_narrows_every_table(opened):
    box = opened.find_element(By.ID, "filter")
    box.send_keys("vit")
    assert names(opened) == ["Beta"]
    assert opened.find_element(By.ID, "shown").text == "1 of 3 rows"
    box.send_keys(Keys.BACKSPACE * 3 + "untrained")
    assert names(opened) == ["Beta"]
    box.send_keys(Keys.BACKSPACE * 9 + "nothing like it")
    assert names(opened) == []


def test_a_setting_is_chosen_by_protocol_and_budget_and_has_an_address(opened, page):
    assert panel(opened).get_attribute("data-label") == "ridge_probe · full"
    protocol = opened.find_element(By.ID, "protocol")
    texts = [option.text for option in Select(protocol).options]
    assert texts == ["Linear probe, ridge regression", "k-nearest neighbours", "All settings"]
    choose(opened, "ridge_probe · 2-shot")
    assert panel(opened).get_attribute("data-label") == "ridge_probe · 2-shot"
    shown = panel(opened).get_attribute("id")
    assert opened.current_url.endswith("#/" + shown)
    choose(opened, "knn")  # which has no board with two images per class
    assert panel(opened).get_attribute("data-label") == "knn · full"
    budgets = opened.find_elements(By.CSS_SELECTOR, "#budget option")
    assert [option.is_enabled() for option in budgets] == [False] * (len(budgets) - 1) + [True]
    opened.back()
    assert panel(opened).get_attribute("id") == shown
    opened.back()
    assert panel(opened).get_attribute("data-label") == "ridge_probe · full"
    opened.forward()
    assert panel(opened).get_attribute("id") == shown
    opened.get("about:blank")
    opened.get(f"{Path(page).as_uri()}#/{shown}")
    assert panel(opened).get_attribute("id") == shown
    choose(opened, "overview")
    assert panel(opened).get_attribute("id") == "overview"
    assert len(names(opened)) == 3


def test_the_heading_and_the_sentence_come_before_the_first_number(opened):
    choose(opened, "ridge_probe · full")
    assert panel(opened).find_element(By.TAG_NAME, "h2").text == (
        "3 backbones on digits, with a linear probe (ridge regression) on all training images"
    )
    said = panel(opened).find_element(By.CSS_SELECTOR, ".said").text
    assert said.startswith("Best: alpha, 52.0 % (95 % interval")


def test_a_link_within_the_page_keeps_the_view(opened):
    choose(opened, "knn · full")
    address = opened.current_url
    opened.find_element(By.CSS_SELECTOR, "a[href='#method']").click()
    assert opened.current_url == address
    assert opened.execute_script("return scrollY") > 0
    assert panel(opened).get_attribute("data-label") == "knn · full"


def test_untrained_rows_are_marked_and_explained(opened):
    assert "untrained" in opened.find_element(By.CSS_SELECTOR, ".notice").text
    rows = panel(opened).find_elements(By.CSS_SELECTOR, "tbody tr")
    assert [("untrained" in row.text) for row in rows if "Beta" in row.text] == [True]


def test_a_name_stays_a_name(opened):
    assert opened.find_elements(By.CSS_SELECTOR, "img") == []


def test_a_score_opens_its_trials_and_facts_and_escape_closes_them(opened, tiny_records):
    choose(opened, "ridge_probe · full")
    shown = [b for b in panel(opened).find_elements(By.CSS_SELECTOR, "button.open") if b.is_displayed()]
    shown[0].click()
    dialog = opened.find_element(By.ID, "record")
    assert dialog.find_element(By.TAG_NAME, "h2").text.startswith("alpha on digits")
    record = next(r for r in tiny_records if r.job.protocol.name == "ridge_probe" and r.job.budget == "full")
    assert f"{len(record.trials)} settings, chosen by validation accuracy" in dialog.text
    dialog.find_element(By.TAG_NAME, "summary").click()
    rows = dialog.find_elements(By.CSS_SELECTOR, "details[open] tbody tr")
    assert len(rows) == len(record.trials)
    assert len([row for row in rows if "chosen" in row.text]) == 1
    assert record.backbone.weights_digest[:16] in dialog.text
    assert "--budget full" in dialog.text
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()


# What sticks out of the window that was asked for: pages on phones grow with what is too wide.
OUTSIDE = """
const seen = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility());
const out = seen.filter((e) => !e.closest(".scroll > *, .drawn > *, .unseen")).filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && (box.right > arguments[0] + 0.5 || box.left < -0.5);
});
return [document.documentElement.scrollWidth, out.slice(0, 3).map((e) => e.outerHTML.slice(0, 100))];
"""


@pytest.mark.parametrize("width", [390, 768, 1280, 1440, 720])
def test_nothing_is_wider_than_the_window(opened, width):
    """720 pixels are a window of 1440 at 200 % zoom."""
    at_width(opened, width)
    try:
        opened.refresh()
        for setting in ("ridge_probe · full", "ridge_probe · 2-shot", "knn · full", "overview"):
            choose(opened, setting)
            assert opened.execute_script(OUTSIDE, width) == [pytest.approx(width, abs=16), []]
        choose(opened, "ridge_probe · full")
        for name in ("filters", "columns", "view", "copies"):
            opened_menu(opened, name)
            assert opened.execute_script(OUTSIDE, width)[1] == [], name
        opened.find_element(By.TAG_NAME, "h1").click()
        panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
        assert opened.find_element(By.ID, "record").is_displayed()
        assert opened.execute_script(OUTSIDE, width)[1] == []
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Text whose contrast to what is behind it is under WCAG AA's 4.5.
CONTRAST = """
const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255);
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = (text) => { const [r, g, b] = rgb(text).map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const colour = (e) => getComputedStyle(e).backgroundColor;
const behind = (e) => {
  for (; e; e = e.parentElement) if (!/, 0\\)$|transparent/.test(colour(e))) return colour(e);
  return colour(document.documentElement);
};
const texts = [...document.querySelectorAll("h1,h2,p,td,th,button,.badge,dd,summary")].filter((e) => e.offsetParent);
return texts.map((e) => {
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 30)];
}).filter(([ratio]) => ratio < 4.5);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(opened, scheme):
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    assert opened.execute_script(CONTRAST) == []


PAPER = 1069  # pixels of A4 across, without margins


def test_printing_shows_every_board_with_its_chart(opened):
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    at_width(opened, PAPER)
    try:
        panels = opened.find_elements(By.CSS_SELECTOR, ".panel")
        assert all(p.is_displayed() for p in panels)
        assert not opened.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
        widths = opened.execute_script(
            "return [...document.querySelectorAll('table')].map((t) => t.scrollWidth)"
        )
        assert max(widths) <= PAPER
        for panel in panels:
            assert all(
                head.is_displayed() for head in panel.find_elements(By.CSS_SELECTOR, ".board thead th")
            )
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert [p.is_displayed() for p in panels].count(True) == 1


def test_a_score_has_its_further_metrics_in_percent_and_nats_with_reasons(opened):
    for setting, expected in (
        (
            "ridge_probe · full",
            "NLL, nats seed 0 – – the scores are those of a regression to targets of -1 and 1",
        ),
        ("knn · full", r"NLL, nats seed 0 0\.\d{3,5} –"),
    ):
        choose(opened, setting)
        panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
        dialog = opened.find_element(By.ID, "record")
        text = dialog.find_element(By.CSS_SELECTOR, "[aria-label='Further metrics']").text.replace("\n", " ")
        assert re.search(expected, text), text
        assert re.search(r"top-5 seed 0 \d+\.\d \d+\.\d – \d+\.\d mean per class seed 0 \d+\.\d –", text), (
            text
        )
        next(b for b in dialog.find_elements(By.TAG_NAME, "button") if b.text == "Close").click()


def test_an_open_page_takes_the_news_and_keeps_its_view(browser, tiny_records, tmp_path):
    page = tmp_path / "running.html"
    page.write_text(render(tiny_records[:1], Extras(reload_s=1)))
    browser.get(page.as_uri())
    header(browser, "Mean").click()
    address = browser.current_url
    assert "running" in browser.find_element(By.TAG_NAME, "header").text
    page.write_text(render(tiny_records))
    WebDriverWait(browser, 20).until(lambda _: browser.find_elements(By.ID, "protocol"))
    assert browser.current_url == address
    assert header(browser, "Mean").find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    assert "running" not in browser.find_element(By.TAG_NAME, "header").text
    assert complaints(browser) == []
