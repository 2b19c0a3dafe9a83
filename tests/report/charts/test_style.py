"""Charts as inline SVG: tooltips, the text colour of the page, and names that are safe to draw."""

import re

import pytest

from vitbench.report.charts.intervals import interval_chart, seed_points
from vitbench.report.charts.style import INK, chart_data, svg


def test_marks_have_tooltips_and_the_text_colour_of_the_page(vtab_board):
    text = svg(interval_chart(seed_points(vtab_board)))
    assert text.count("<title>") >= 57
    assert INK not in text
    assert re.findall(r"https?:|role=|aria-", text) == []


@pytest.mark.parametrize(
    "name", ["\x00", "\x1b[31mred", "💩" * 100, "\ufffe", "x" * 5000, "\u202eabc", "<b>"]
)
def test_no_name_ends_the_process(name):
    """vl-convert aborts the process on some characters."""
    rows = [
        {
            "panel": name,
            "backbone": name,
            "family": name,
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "seeds": [0.5],
        }
    ]
    drawn = svg(interval_chart(chart_data(rows)))
    assert drawn.startswith("<svg")
    assert "<b>" not in drawn
