"""Charts by Altair: as inline SVG that follows the page's colours, light or dark, or as files for papers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from vitbench.report.curves import ShotsPoint, TrialPoint

Chart = alt.FacetChart | alt.LayerChart | alt.Chart

INK = "#7f7f81"  # stands for the page's own ink until the SVG is made
# Okabe and Ito's palette: told apart by colour-blind readers, on white and on black.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999", "#b8a800")
MOST_LETTERS = 60  # of a name in a chart
PERCENT = alt.Axis(format=".0%", tickCount=5)


def _colour(field: str, symbol: str = "stroke") -> alt.Color:
    legend = alt.Legend(orient="bottom", columns=4, symbolType=symbol, symbolOpacity=1, symbolStrokeWidth=3)
    return alt.Color(f"{field}:N", title=None, sort=None, scale=alt.Scale(range=list(PALETTE)), legend=legend)


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table whose texts can be drawn."""
    return pd.DataFrame([{k: _drawn(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows])


def _drawn(text: str) -> str:
    """A name as a chart can have it: vl-convert ends the process at what XML forbids, and at half of a surrogate pair."""
    kept = "".join(c if c.isprintable() and ord(c) < 0x10000 else "□" for c in text)
    return kept if len(kept) <= MOST_LETTERS else kept[: MOST_LETTERS - 1] + "…"


def _panels(chart: Any, field: str, columns: int, **scales: Any) -> alt.FacetChart:
    facets = chart.facet(facet=alt.Facet(f"{field}:N", title=None, sort=None), columns=columns)
    resolved: alt.FacetChart = facets.resolve_scale(**scales)
    return resolved


def shots_chart(points: Sequence[ShotsPoint]) -> Chart | None:
    """Accuracy against shots, a panel per task and protocol, a band from the lowest to the highest seed (ViT paper, Fig. 4)."""
    if len({point.shots for point in points}) < 2:
        return None
    frame = _frame([asdict(point) for point in points])
    frame["panel"] = frame["task"] + " · " + frame["protocol"]
    shots = sorted(frame["shots"].unique().tolist())
    x = alt.X(
        "shots:Q",
        title="examples per class",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=shots, grid=False),
    )
    base = alt.Chart(frame)
    band = base.mark_area(opacity=0.15).encode(
        x, alt.Y("low:Q", title="top-1", axis=PERCENT), alt.Y2("high"), _colour("backbone")
    )
    line = base.mark_line(point=True).encode(
        x, alt.Y("value:Q", title="top-1", axis=PERCENT), _colour("backbone")
    )
    panels = alt.layer(band, line).properties(width=300, height=210)
    return _panels(panels, "panel", 3, y="independent")


@dataclass(frozen=True)
class CostPoint:
    """A model by its cost and its score, measured here or quoted; a converted cost with its range, others with zeros."""

    model: str
    family: str
    cost: float
    score: float
    kind: str = "published"
    low: float = 0.0
    high: float = 0.0


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other beats at the same cost or less, cheapest first."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not found or point.score > found[-1].score:
            found.append(point)
    return found


def cost_chart(points: Sequence[CostPoint], title: str = "pre-training, exaFLOP (published)") -> Chart | None:
    """Score in percent against cost, with the front of what is not beaten (ViT paper, Fig. 5); None without two points."""
    if len(points) < 2:
        return None
    axis = alt.Axis(grid=False, tickCount=6, format="~g")
    x = alt.X("cost:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=30), axis=axis)
    y = alt.Y(
        "score:Q", title="mean top-1, %", scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(tickCount=6)
    )
    line = alt.Chart(_frame([asdict(point) for point in front(points)])).mark_line(
        color=INK, strokeDash=[4, 3], opacity=0.8
    )
    dots = alt.Chart(_frame([asdict(point) for point in points]))
    layers: list[Any] = [line.encode(x, y)]
    if any(point.low for point in points):  # converted, not printed: with the range of the conversion
        ranges = dots.transform_filter("datum.low > 0").mark_rule(color=INK, opacity=0.6)
        layers.append(ranges.encode(alt.X("low:Q"), alt.X2("high"), y))
    for kind, filled in (("measured", True), ("published", False)):  # what is quoted is hollow
        if any(point.kind == kind for point in points):
            marks = dots.transform_filter(alt.datum.kind == kind)
            colour = _colour("family", "circle")
            layers.append(
                marks.mark_point(size=70, opacity=1, filled=filled, strokeWidth=2).encode(x, y, colour)
            )
    names = dots.mark_text(align="left", dx=7, dy=-6, fontSize=10, color=INK).encode(x, y, text="model:N")
    return alt.layer(*layers, names).properties(width=720, height=320)


def interval_chart(rows: Sequence[dict[str, Any]], columns: int) -> Chart | None:
    """Rows of (panel, backbone, value, low, high, seeds): backbones below each other, a panel beside the other."""
    if not rows:
        return None
    frame = _frame(rows)
    order = frame["backbone"].drop_duplicates().tolist()
    y = alt.Y("backbone:N", title=None, sort=order, axis=alt.Axis(labelLimit=180, grid=True))
    axis = alt.Axis(format=".0%", tickCount=4, grid=False)
    x = alt.X("value:Q", title="top-1", axis=axis, scale=alt.Scale(zero=False))
    base = alt.Chart(frame)
    bars = base.mark_rule(color=INK, strokeWidth=5, opacity=0.35).encode(alt.X("low:Q"), alt.X2("high"), y)
    seeds = base.transform_flatten(["seeds"]).mark_tick(thickness=1.5, size=12, color=PALETTE[4])
    dots = base.mark_point(filled=True, size=45, opacity=1, color=PALETTE[0]).encode(x, y)
    panels = alt.layer(bars, seeds.encode(alt.X("seeds:Q"), y), dots)
    return _panels(
        panels.properties(width=190, height=17 * len(order) + 6), "panel", columns, x="independent"
    )


def trials_chart(points: Sequence[TrialPoint]) -> Chart | None:
    """What every setting of the swept option scored where it was chosen, a panel per task; the chosen ones are filled."""
    if not points:
        return None
    option = points[0].option
    frame = _frame([asdict(point) for point in points])
    frame["run"] = frame["backbone"] + frame["seed"].astype(str)
    scale = alt.Scale(type="log" if bool((frame["setting"] > 0).all()) else "linear")
    x = alt.X("setting:Q", title=option, scale=scale, axis=alt.Axis(grid=False, tickCount=5, format="~g"))
    y = alt.Y("value:Q", title="score on validation", axis=PERCENT, scale=alt.Scale(zero=False))
    base = alt.Chart(frame)
    lines = base.mark_line(strokeWidth=1.5, opacity=0.8).encode(x, y, _colour("backbone"), detail="run:N")
    chosen = base.transform_filter("datum.chosen").mark_point(filled=True, size=60, opacity=1)
    panels = alt.layer(lines, chosen.encode(x, y, _colour("backbone"))).properties(width=300, height=190)
    return _panels(panels, "task", 3, y="independent")


_PLACES = re.compile(r'\b(?:d|transform|[xy][12]?)="[^"]*"')
_DIGITS = re.compile(r"(\d+\.\d)\d+")  # a tenth of a pixel is enough
_MARK = re.compile(
    r'<path aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="(?:point|circle|tick)"([^>]*)/>'
)
_ROLES = re.compile(r' (?:role|aria-label|aria-roledescription|aria-hidden)="[^"]*"')
# Half of what Vega writes draws nothing: empty frames, and attributes at their defaults.
_IDLE = re.compile(
    r'<path class="foreground"[^>]* d=""[^>]*/>|<path class="background"[^>]* d="M0,0h0v0h0Z"[^>]*/>'
    r'| (?:pointer-events="none"|opacity="1"|stroke-width="1"|transform="translate\(0,0\)"|font-style="normal")'
)


def styled(chart: Chart, ink: str = INK, background: str = "transparent") -> str:
    """A chart with the page's fonts and one ink, as Vega-Lite's JSON."""
    colours = {"labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink}
    return str(
        chart.configure(
            background=background,
            font="system-ui, sans-serif",
            axis={**colours, "gridColor": ink, "gridOpacity": 0.2},
            legend={"labelColor": ink, "titleColor": ink, "labelLimit": 240},
            header={"labelColor": ink, "titleColor": ink, "labelFontWeight": "bold"},
            view={"stroke": None},
        ).to_json()
    )


def svg(chart: Chart | None) -> str:
    """SVG without addresses, its ink the page's own, with tooltips; '' for no chart. What it stands in has to name it."""
    if chart is None:
        return ""
    drawn = vl_convert.vegalite_to_svg(styled(chart))
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    drawn = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"',
        r'\1 style="max-width:\2px"',
        drawn,
        count=1,
    )
    drawn = _ROLES.sub("", _MARK.sub(r"<path\2><title>\1</title></path>", drawn))
    drawn = _PLACES.sub(lambda found: _DIGITS.sub(r"\1", found[0]), _IDLE.sub("", drawn))
    return drawn.replace(INK, "currentColor").replace("rgb(127,127,129)", "currentColor")
