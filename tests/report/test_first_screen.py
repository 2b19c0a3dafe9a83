"""What a reader sees before scrolling, on a desk and on a phone: of the committed pages, and of a VTAB board."""

from pathlib import Path

import pytest

from tests.making.boards import NAMES, board
from tests.making.chromium import MARKS, at_width, complaints, started
from vitbench.report.page import Extras, render

pytestmark = MARKS
REPORTS = Path(__file__).parents[2] / "reports"
SCREENS = [(1440, 900), (390, 844)]

# Where things end in the window, but for what is outside of it or of a box that scrolls.
FIRST = """
const [selector] = arguments;
const shown = [...document.querySelectorAll(selector)].map((e) => [e, e.getBoundingClientRect()]).filter(([e, box]) => {
  const clip = (e.closest(".scroll") || document.documentElement).getBoundingClientRect();
  const [right, bottom] = [Math.min(clip.right, innerWidth), Math.min(clip.bottom, innerHeight)];
  return e.checkVisibility() && box.height && box.left >= clip.left && box.right <= right + 0.5 && box.bottom <= bottom;
});
return shown.map(([e, box]) => [e.textContent.trim(), box.top, box.bottom]);
"""


@pytest.fixture(scope="module")
def vtab(tmp_path_factory, tiny_records):
    """Five backbones, one of them incomplete, beside published rows with their costs."""
    records = [record for i, record in enumerate(board(tiny_records[0], NAMES[:5])) if i != 5]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(records, Extras(published=("vit2021-t9",))))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def shown(browser, page, width, height, selector):
    """Texts with their tops and bottoms, of what is wholly on the first screen."""
    at_width(browser, width, height)
    browser.get("about:blank")
    browser.get(page.as_uri())
    assert complaints(browser) == []
    return browser.execute_script(FIRST, selector)


@pytest.mark.parametrize(("width", "height"), SCREENS)
@pytest.mark.parametrize("name", ["quickstart", "paper", "vtab"])
def test_the_first_number_of_the_table_ends_within_250_pixels(browser, vtab, name, width, height):
    page = vtab if name == "vtab" else REPORTS / name / "report.html"
    numbers = shown(browser, page, width, height, ".panel tbody td.mean b, .printed tbody td.num")
    (text, _, bottom), *_ = numbers
    assert float(text.split()[0]) > 0
    assert bottom < 250


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_heading_the_sentence_and_the_names_are_on_it(browser, vtab, width, height):
    heading, *others = [text for text, *_ in shown(browser, vtab, width, height, ".panel h2, .panel .said")]
    assert heading == "5 backbones on VTAB-1k, fine-tuned on 1,000 images, 3 seeds"
    assert others[0].startswith("Best: vit_base_patch16_224, ")
    assert "Incomplete, not ranked" in others[1]


def test_readers_of_the_order_get_the_sentence_before_the_table(browser, vtab):
    shown(browser, vtab, *SCREENS[1], "h2")
    order = browser.execute_script(
        "return [...document.querySelectorAll('h1, .panel > h2, .panel > .said, .panel table.board')].map((e) => e.localName)"
    )
    assert order == ["h1", "h2", "p", "p", "table"]


def test_a_folded_vtab_board_has_costs_group_means_and_its_chart_side_by_side(browser, vtab):
    heads = shown(browser, vtab, 1440, 900, ".panel .board thead th > button:first-child")
    assert [text for text, *_ in heads[:12]] == [
        "#", "Backbone", "Mean", "Core-days", "FLOPs/image", "Time", "Params", "Front", "Natural", "Specialized", "Structured",
        "Group mean",
    ]  # fmt: skip
    table, chart = browser.execute_script(
        "return ['.board', '.scatter'].map((name) => document.querySelector('.panel ' + name).getBoundingClientRect().top)"
    )
    assert abs(table - chart) < 100
    assert shown(browser, vtab, 1440, 900, ".panel .scatter")


def test_no_page_is_wider_than_its_window(browser, vtab):
    for page in (vtab, REPORTS / "paper" / "report.html"):
        for width in (390, 768, 1280, 1440, 720):  # 720 pixels are a window of 1440 at 200 % zoom
            shown(browser, page, width, 900, "h1")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
