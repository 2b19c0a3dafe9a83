"""Charts as inline SVG that follows the page's colours, light or dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import altair as alt
import pandas as pd
import vl_convert

from vitbench.report.views import ShotsPoint

INK = "#7f7f81"  # stands for the page's own ink until the SVG is made
# Okabe and Ito's palette: told apart by colour-blind readers, on white and on black.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999", "#b8a800")


def shots_curves(points: Sequence[ShotsPoint]) -> str:
    """Accuracy against shots, a panel per task and protocol, a band from the lowest to the highest seed; '' without points."""
    if len({point.shots for point in points}) < 2:
        return ""
    frame = pd.DataFrame([asdict(point) for point in points])
    frame["panel"] = frame["task"] + " · " + frame["protocol"]
    shots = sorted(frame["shots"].unique().tolist())
    x = alt.X(
        "shots:Q",
        title="examples per class",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=shots, grid=False),
    )
    percent = alt.Axis(format=".0%", tickCount=5)
    colour = alt.Color(
        "backbone:N",
        title=None,
        sort=None,
        scale=alt.Scale(range=list(PALETTE)),
        legend=alt.Legend(
            orient="bottom", columns=4, symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3
        ),
    )
    base = alt.Chart(frame)
    band = base.mark_area(opacity=0.15).encode(
        x, alt.Y("low:Q", title="top-1", axis=percent), alt.Y2("high"), colour
    )
    line = base.mark_line(point=True).encode(x, alt.Y("value:Q", title="top-1", axis=percent), colour)
    panels = alt.layer(band, line).properties(width=300, height=210)
    chart = panels.facet(facet=alt.Facet("panel:N", title=None, sort=None), columns=3)
    return svg(chart.resolve_scale(y="independent"))


@dataclass(frozen=True)
class CostPoint:
    """A model by its cost and its score."""

    model: str
    family: str
    cost: float
    score: float


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other beats at the same cost or less, cheapest first."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not found or point.score > found[-1].score:
            found.append(point)
    return found


def pareto(points: Sequence[CostPoint], cost_title: str = "pre-training, exaFLOP (published)") -> str:
    """Score against cost with the front of what is not beaten; '' without two points."""
    if len(points) < 2:
        return ""
    x = alt.X("cost:Q", title=cost_title, scale=alt.Scale(type="log"), axis=alt.Axis(grid=False))
    y = alt.Y("score:Q", title="mean top-1, %", scale=alt.Scale(zero=False))
    colour = alt.Color(
        "family:N",
        title=None,
        sort=None,
        scale=alt.Scale(range=list(PALETTE)),
        legend=alt.Legend(orient="bottom"),
    )
    line = alt.Chart(pd.DataFrame([asdict(point) for point in front(points)])).mark_line(
        color=INK, strokeDash=[4, 3], opacity=0.8
    )
    dots = alt.Chart(pd.DataFrame([asdict(point) for point in points]))
    marks = dots.mark_circle(size=70, opacity=1).encode(x, y, colour)
    names = dots.mark_text(align="left", dx=7, fontSize=10, color=INK).encode(x, y, text="model:N")
    return svg(alt.layer(line.encode(x, y), marks, names).properties(width=760, height=380))


def svg(chart: alt.FacetChart | alt.LayerChart | alt.Chart) -> str:
    """SVG without addresses, its ink the page's own."""
    ink = {"labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK}
    styled = chart.configure(
        background="transparent",
        font="system-ui, sans-serif",
        axis={**ink, "gridColor": INK, "gridOpacity": 0.2},
        legend={"labelColor": INK, "titleColor": INK, "labelLimit": 240},
        header={"labelColor": INK, "titleColor": INK, "labelFontWeight": "bold"},
        view={"stroke": None},
    )
    svg = vl_convert.vegalite_to_svg(styled.to_json())
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"',
        r'\1 style="max-width:\2px"',
        svg,
        count=1,
    )
    return svg.replace(INK, "currentColor").replace("rgb(127,127,129)", "currentColor")
