"""Shared by all charts: colours, panels, and rendering as inline SVG in the text colour of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module

if TYPE_CHECKING:
    import altair as alt
    import vl_convert

    Spec = alt.FacetChart | alt.LayerChart | alt.ConcatChart | alt.Chart
else:
    alt = lazy_module("altair")
    vl_convert = lazy_module("vl_convert")
    Spec = Any

INK = "#7f7f81"  # replaced by the text colour of the page in the SVG
MOST_LETTERS = 60  # of a name in a chart


def chart_data(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table whose texts are safe to draw."""
    return pd.DataFrame(
        [{k: drawable(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    )


def drawable(text: str) -> str:
    """A name that is safe to draw: vl-convert ends the process on characters that XML forbids and on half surrogate pairs."""
    kept = "".join(c if c.isprintable() and ord(c) < 0x10000 else "□" for c in text)
    return kept if len(kept) <= MOST_LETTERS else kept[: MOST_LETTERS - 1] + "…"


def percent_axis() -> alt.Axis:
    """An axis of fractions, labelled in percent."""
    return alt.Axis(format=".0%", tickCount=5)


def panels_by(chart: Any, field: str, columns: int, **scales: Any) -> alt.FacetChart:
    """One panel for each value of a column."""
    facets = chart.facet(facet=alt.Facet(f"{field}:N", title=None, sort=None), columns=columns)
    resolved: alt.FacetChart = facets.resolve_scale(**scales)
    return resolved


_POSITIONS = re.compile(r'\b(?:d|transform|[xy][12]?)="[^"]*"')
_DIGITS = re.compile(r"(\d+\.\d)\d+")  # a tenth of a pixel is enough
_MARK = re.compile(
    r'<path aria-label="([^"]*)" role="graphics-symbol" '
    r'aria-roledescription="(?:point|circle|tick|line mark|area mark)"([^>]*)/>'
)
_ROLES = re.compile(r' (?:role|aria-label|aria-roledescription|aria-hidden)="[^"]*"')
# Half of Vega's output draws nothing: empty frames, and attributes at their defaults.
_NO_EFFECT = re.compile(
    r'<path class="foreground"[^>]* d=""[^>]*/>|<path class="background"[^>]* d="M0,0h0v0h0Z"[^>]*/>'
    r'| (?:pointer-events="none"|opacity="1"|stroke-width="1"|transform="translate\(0,0\)"|font-style="normal")'
)


def styled(spec: Spec, ink: str = INK, background: str = "transparent") -> str:
    """A chart with the fonts of the page in one ink, as Vega-Lite JSON."""
    colours = {"labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink}
    return str(
        spec.configure(
            background=background,
            padding={"left": 14, "right": 5, "top": 5, "bottom": 5},  # fonts of the page may be wider
            font="system-ui, sans-serif",
            axis={**colours, "gridColor": ink, "gridOpacity": 0.2},
            legend={"labelColor": ink, "titleColor": ink, "labelLimit": 240},
            header={"labelColor": ink, "titleColor": ink, "labelFontWeight": "bold"},
            view={"stroke": None},
        ).to_json()
    )


def svg(spec: Spec) -> str:
    """SVG with tooltips and without URLs, in the text colour of the page; the element around it must have a label."""
    drawn = vl_convert.vegalite_to_svg(styled(spec))
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    drawn = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"',
        r'\1 style="max-width:\2px"',
        drawn,
        count=1,
    )
    drawn = _ROLES.sub("", _MARK.sub(r"<path\2><title>\1</title></path>", drawn))
    drawn = _POSITIONS.sub(lambda found: _DIGITS.sub(r"\1", found[0]), _NO_EFFECT.sub("", drawn))
    return drawn.replace(INK, "currentColor").replace("rgb(127,127,129)", "currentColor")
