"""Mean accuracy against compute, a drawing for each of the three compute quantities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from vitbench.core.record import Record
from vitbench.report.charts.chart import Chart, Drawing, Spec
from vitbench.report.charts.style import INK, chart_data, colour_by
from vitbench.report.leaderboard import Board, Row
from vitbench.report.shown_metric import axis_title

# The three quantities, never on one axis.
QUANTITIES = {
    "A": "pre-training, TPUv3-core-days (published; bars: range estimated from exaFLOPs)",
    "B": "forward pass, GFLOPs per image (counted)",
    "C": "device-seconds, all tasks and seeds (measured here)",
}


def _draw(boards: Sequence[Board], _records: Sequence[Record]) -> list[Drawing]:
    (board,) = boards
    drawings = []
    for quantity, title in QUANTITIES.items():
        device = _main_device(board) if quantity == "C" else None
        points, metric = (
            cost_points(board, quantity, device),
            axis_title(c for c in board.columns if c.counted),
        )
        spec = cost_chart(points, f"{title} on {device}" if device else title, f"mean {metric}, %")
        label = f"Mean accuracy of {board.label} against {title}; dashed line: Pareto front. The table has the numbers."
        if spec is not None:
            drawings.append(Drawing(spec, label, quantity, f"{quantity} · {title}"))
    return drawings


COST = Chart("cost", "Mean accuracy over all tasks against compute", "board", _draw)


def _main_device(board: Board) -> str:
    devices = Counter(row.compute.device for row in board.rows if row.compute.device)
    return devices.most_common(1)[0][0] if devices else ""


def cost_points(board: Board, quantity: str, device: str | None = None) -> pd.DataFrame:
    """Complete rows with a known cost: measured filled, published hollow, converted costs with their range.

    Only rows of one device, if it is given: seconds of several devices are not comparable.
    """
    return chart_data([
        {
            "model": row.backbone, "family": row.family, "cost": cost, "score": 100 * row.mean,
            "kind": "published" if row.published else "measured", "low": low, "high": high,
        }
        for row in board.rows
        if row.mean is not None and (cost := _cost(row, quantity)) and device in (None, row.compute.device)
        for low, high in [row.compute.estimated if quantity == "A" and row.compute.estimated else (0.0, 0.0)]
    ])  # fmt: skip


def _cost(row: Row, quantity: str) -> float | None:
    compute = row.compute
    if quantity == "A":
        return compute.core_days
    if quantity == "B":
        return None if compute.flops_per_image is None else compute.flops_per_image / 1e9
    return None if compute.at_least else compute.seconds


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """The points without another that scores as much at the same cost or less, cheapest first."""
    ordered = points.sort_values(["cost", "score"], ascending=[True, False], kind="stable")
    best_before = ordered["score"].astype(float).cummax().shift(fill_value=float("-inf"))
    return ordered[ordered["score"] > best_before]


def cost_chart(points: pd.DataFrame, title: str, score: str = "mean top-1, %") -> Spec | None:
    """Score in percent against cost, with the Pareto front (ViT paper, Fig. 5); None for fewer than two points."""
    if len(points) < 2:
        return None
    axis = alt.Axis(grid=False, tickCount=6, format="~g")
    x = alt.X("cost:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=30), axis=axis)
    y = alt.Y("score:Q", title=score, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(tickCount=6))
    line = alt.Chart(pareto_front(points)).mark_line(color=INK, strokeDash=[4, 3], opacity=0.8)
    dots = alt.Chart(points)
    layers: list[Any] = [line.encode(x, y)]
    if (points["low"] > 0).any():
        ranges = dots.transform_filter("datum.low > 0").mark_rule(color=INK, opacity=0.6)
        layers.append(ranges.encode(alt.X("low:Q"), alt.X2("high"), y))
    for kind, filled in (("measured", True), ("published", False)):
        if (points["kind"] == kind).any():
            marks = dots.transform_filter(alt.datum.kind == kind)
            colour = colour_by("family", "circle")
            layers.append(
                marks.mark_point(size=70, opacity=1, filled=filled, strokeWidth=2).encode(x, y, colour)
            )
    names = dots.mark_text(align="left", dx=7, dy=-6, fontSize=10, color=INK).encode(x, y, text="model:N")
    return alt.layer(*layers, names).properties(width=720, height=320)
