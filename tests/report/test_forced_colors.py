"""In forced colours (Windows' high contrast), nothing that a page says by colour disappears."""

import re

import pytest
from selenium.webdriver.common.by import By

from tests.making.boards import NAMES, board, with_all_that_a_record_can_hold
from tests.making.chromium import MARKS, at_width, complaints, opened_menu, panel, started
from vitbench.report.page import Extras, render

pytestmark = [*MARKS, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_records):
    records = [with_all_that_a_record_can_hold(record) for record in board(tiny_records[0], NAMES[:4])]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(records, Extras(published=("vit2021-t9",))))
    return path.as_uri()


@pytest.fixture(params=["light", "dark"])
def opened(browser, page, request):
    features = [
        {"name": "forced-colors", "value": "active"},
        {"name": "prefers-color-scheme", "value": request.param},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    at_width(browser, 1440)
    browser.get("about:blank")
    browser.get(page)
    panel(browser).find_element(By.CSS_SELECTOR, "[data-fold-of=natural]").click()
    assert browser.execute_script("return matchMedia('(forced-colors: active)').matches")
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []


# The least contrast of painted marks to the canvas, by selector; what is transparent has none.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = (colour, behind) => {
  for (const each of [behind, colour]) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const probe = document.body.appendChild(document.createElement("div"));
probe.style.background = "Canvas";
const behind = getComputedStyle(probe).backgroundColor;
probe.remove();
return arguments[0].map(([selector, property]) => {
  const found = [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
  return [selector, found.length, Math.min(...found.map((e) => {
    const colour = getComputedStyle(e)[property];
    const [high, low] = [light(colour === "none" ? behind : colour, behind), light(behind, behind)].sort((a, b) => b - a);
    return ((high + 0.05) / (low + 0.05)) * (Number(getComputedStyle(e).opacity) === 1 ? 1 : 0.5);
  }))];
});
"""
TEXTS = [
    (".scatter text", "fill"),
    (".panels text", "fill"),
    (".panel .board td", "color"),
    (".panel .board th", "color"),
]
MARKS_OF_CHARTS = [
    (".scatter .point > path", "stroke"), (".panels .point > path", "stroke"), (".panels .reach", "stroke"),
    (".scatter .front", "stroke"), (".scatter .axis", "stroke"),
]  # fmt: skip


def contrasts(browser, parts):
    found = browser.execute_script(CONTRAST, [list(part) for part in parts])
    assert all(number for _, number, _ in found), found
    return {selector: least for selector, _, least in found}


def test_charts_and_texts_contrast_with_the_canvas(opened):
    """WCAG 1.4.3 and 1.4.11: 4.5 for text, 3 for graphics; palettes of families have 2.2 or more, with shapes and names."""
    assert min(contrasts(opened, TEXTS).values()) >= 4.5
    found = contrasts(opened, MARKS_OF_CHARTS)
    families = {selector: found.pop(selector) for selector in list(found) if "path" in selector}
    assert min(found.values()) >= 3
    assert min(families.values()) >= 2.2


BARS = """
return [...document.querySelectorAll(".panel:not([hidden]) tbody td[style]")].filter((td) => td.checkVisibility()).map((td) => {
  const style = getComputedStyle(td);
  return [Number(td.style.getPropertyValue(arguments[0])), style.backgroundImage, parseFloat(style.backgroundSize)];
});
"""


@pytest.mark.parametrize("variable", ["--share", "--place"])
def test_bars_and_shades_of_scores_are_bars_in_a_colour_of_the_system(opened, variable):
    if variable == "--place":
        opened_menu(opened, "view").find_element(By.ID, "heat").click()
    found = opened.execute_script(BARS, variable)
    assert len(found) == (4 if variable == "--share" else 7) * 7  # published scores have shades, and no bars
    for share, image, size in found:
        assert "gradient" in image
        assert size == pytest.approx(100 * share, abs=0.1)
    assert len({size for *_, size in found}) > 4


def test_what_is_best_published_pressed_and_picked_is_marked_without_colour(opened):
    style = (
        "return getComputedStyle(document.querySelector(arguments[0]), arguments[1] || null)[arguments[2]]"
    )
    assert "underline" in opened.execute_script(style, ".panel td.best b", "", "textDecorationLine")
    assert opened.execute_script(style, "tr.published td", "", "borderBottomStyle") == "dashed"
    assert opened.execute_script(style, ".axes [aria-pressed=true]", "", "outlineStyle") == "solid"
    assert opened.execute_script(style, ".axes [aria-pressed=false]", "", "outlineStyle") == "none"
    marks = {opened.execute_script(style, f".delta.{kind}", "::after", "content") for kind in ("bad",)}
    assert marks == {'" ✗"'}
    panel(opened).find_element(By.CSS_SELECTOR, ".pick-row").click()
    assert opened.execute_script(style, "tr.picked td", "", "borderBottomWidth") == "2px"


def test_a_pressed_button_can_be_read(opened):
    """Browsers paint the canvas behind texts whose colours they force: a text in the colour of the canvas would be gone."""
    pressed = "[...document.querySelectorAll('.axes [aria-pressed=true]')].find((e) => e.checkVisibility())"
    adjust, text, fill = opened.execute_script(
        f"const style = getComputedStyle({pressed}); return [style.forcedColorAdjust, style.color, style.backgroundColor]"
    )
    assert adjust == "none"
    levels = [sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3 for colour in (text, fill)]
    assert abs(levels[0] - levels[1]) > 100


def test_the_keyboard_s_focus_is_seen(opened):
    opened.find_element(By.ID, "filter").send_keys("\ue004")  # the tabulator
    outline = opened.execute_script(
        "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, parseFloat(style.outlineWidth)]"
    )
    assert outline == ["solid", 2]


def test_the_curves_of_a_dialog_are_seen(opened):
    panel(opened).find_element(By.CSS_SELECTOR, "button.open").click()
    parts = [
        (".reliability path", "stroke"),
        (".reliability circle", "fill"),
        (".losses path", "stroke"),
        (".sweep text", "fill"),
    ]
    found = contrasts(opened, parts)
    assert min(found.values()) >= 3
