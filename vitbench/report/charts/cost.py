"""Accuracy against compute, one chart for each of the three costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

from vitbench.report.charts.style import INK, Chart, chart_data, colour_by
from vitbench.report.leaderboard import Board, Row


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
    line = alt.Chart(chart_data([asdict(point) for point in front(points)])).mark_line(
        color=INK, strokeDash=[4, 3], opacity=0.8
    )
    dots = alt.Chart(chart_data([asdict(point) for point in points]))
    layers: list[Any] = [line.encode(x, y)]
    if any(point.low for point in points):  # converted, not printed: with the range of the conversion
        ranges = dots.transform_filter("datum.low > 0").mark_rule(color=INK, opacity=0.6)
        layers.append(ranges.encode(alt.X("low:Q"), alt.X2("high"), y))
    for kind, filled in (("measured", True), ("published", False)):  # what is quoted is hollow
        if any(point.kind == kind for point in points):
            marks = dots.transform_filter(alt.datum.kind == kind)
            colour = colour_by("family", "circle")
            layers.append(
                marks.mark_point(size=70, opacity=1, filled=filled, strokeWidth=2).encode(x, y, colour)
            )
    names = dots.mark_text(align="left", dx=7, dy=-6, fontSize=10, color=INK).encode(x, y, text="model:N")
    return alt.layer(*layers, names).properties(width=720, height=320)


# The three quantities, never on one axis.
COSTS = {
    "A": "pre-training, TPUv3-core-days (published; with a bar: converted from exaFLOP)",
    "B": "forward pass, GFLOP an image (counted)",
    "C": "seconds, all tasks and seeds (measured here)",
}


def cost_charts(board: Board) -> dict[str, Chart]:
    """Mean accuracy against each of the three costs, where at least two complete rows know it."""
    charts = {}
    devices = Counter(row.compute.device for row in board.rows if row.compute.device)
    device = devices.most_common(1)[0][0] if devices else ""  # seconds of several are not compared
    for quantity, title in COSTS.items():
        title = f"{title} on {device}" if quantity == "C" else title
        points = [
            CostPoint(
                row.backbone, row.family, cost, 100 * row.mean, "published" if row.published else "measured",
                *(row.compute.estimated or (0.0, 0.0) if quantity == "A" else (0.0, 0.0)),
            )
            for row in board.rows
            if row.mean is not None and (cost := _cost(row, quantity)) and (quantity != "C" or row.compute.device == device)
        ]  # fmt: skip
        chart = cost_chart(points, title)
        if chart is not None:
            charts[quantity] = chart
    return charts


def _cost(row: Row, quantity: str) -> float | None:
    cost = row.compute
    if quantity == "A":
        return cost.core_days
    if quantity == "B":
        return None if cost.flops_per_image is None else cost.flops_per_image / 1e9
    return cost.seconds
