"""Mean accuracy against compute, a drawing for each of the compute quantities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families
from vitbench.report.charts.plane import Plane
from vitbench.report.charts.style import INK, Spec, chart_data
from vitbench.report.leaderboard import Board, Row
from vitbench.report.shown_metric import axis_title

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

# The quantities, never two on one axis.
QUANTITIES = {
    "A": "pre-training, TPUv3-core-days (published; bars: range estimated from exaFLOPs)",
    "B": "forward pass, GFLOPs per image (counted)",
    "C": "device-seconds, all tasks and seeds (measured here)",
    "P": "pre-training, TFLOPs (counted)",
    "T": "trained parameters, millions, heads included",
}

WIDTH_PX, HEIGHT_PX = 720, 320
SHORT_DECADES = 2.5  # of a logarithmic axis, which then has ticks at 1, 2 and 5
SHORTEST_DECADES = 0.6  # and at all digits
MOST_NAMED = 5  # rows without a known cost


def _draw(boards: Sequence[Board], _records: Sequence[Record], families: Families) -> list[Drawing]:
    (board,) = boards
    drawings = []
    for quantity, title in QUANTITIES.items():
        device = main_device(board) if quantity == "C" else None
        points, metric = (
            cost_points(board, quantity, device),
            axis_title(c for c in board.columns if c.counted),
        )
        hidden = without_cost(board, quantity, device)
        titles = f"{title} on {device}" if device else title, f"mean {metric}, %"
        spec = cost_chart(points, *titles, hidden, families)
        label = f"Mean accuracy of {board.label} against {title}; dashed line: Pareto front. The table has the numbers."
        if spec is not None:
            drawings.append(Drawing(spec, label, quantity, f"{quantity} · {title}"))
    return drawings


COST = Chart("cost", "Mean accuracy against compute", "board", _draw)


def main_device(board: Board) -> str:
    """The device that most rows were measured on; '' if none is known."""
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
        if row.mean is not None and (cost := cost_of(row, quantity)) is not None and device in (None, row.compute.device)
        for low, high in [row.compute.estimated if quantity == "A" and row.compute.estimated else (0.0, 0.0)]
    ])  # fmt: skip


def without_cost(board: Board, quantity: str, device: str | None = None) -> list[str]:
    """The complete rows that have no place in the chart: their cost is not known, or was measured on another device."""
    shown = {
        row.backbone
        for row in board.rows
        if cost_of(row, quantity) is not None and device in (None, row.compute.device)
    }
    return [row.backbone for row in board.rows if row.mean is not None and row.backbone not in shown]


def cost_of(row: Row, quantity: str) -> float | None:
    """A row's cost of one quantity; None if it is not known."""
    compute = row.compute
    if quantity == "A":
        return compute.core_days
    if quantity == "P":
        return None if compute.pretrain_flops is None else compute.pretrain_flops / 1e12
    if quantity == "T":
        return None if compute.trained_parameters is None else compute.trained_parameters / 1e6
    if quantity == "B":
        return None if compute.flops_per_image is None else compute.flops_per_image / 1e9
    return None if compute.at_least else compute.seconds


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """The points without another that scores as much at the same cost or less, cheapest first."""
    return points.iloc[on_front(list(zip(points["cost"], points["score"], strict=True)))]


def on_front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Positions of the points (cost, score) without another that scores as much at the same cost or less, cheapest first."""
    known = [
        (cost, -score, i) for i, (cost, score) in enumerate(points) if cost is not None and score is not None
    ]
    found, best = [], math.inf
    for _, negative, i in sorted(known):
        if negative < best:
            best = negative
            found.append(i)
    return found


def cost_chart(
    points: pd.DataFrame,
    title: str,
    score: str = "mean top-1, %",
    hidden: Sequence[str] = (),
    families: Families | None = None,
    size_px: tuple[int, int] = (WIDTH_PX, HEIGHT_PX),
) -> Spec | None:
    """Score in percent against cost, with the Pareto front (ViT paper, Fig. 5); None for fewer than two points.

    A cost of zero, such as raw pixels', has a place of its own left of the logarithmic axis. `hidden` rows are named.
    """
    if len(points) < 2 or not (points["cost"] > 0).any():
        return None
    ticks = log_ticks(float(points["cost"][points["cost"] > 0].min()), float(points["cost"].max()))
    nothing = ticks[0] / (ticks[-1] / ticks[0]) ** 0.1 / 2  # where zero stands
    points = points.assign(
        at=points["cost"].where(points["cost"] > 0, nothing),
        said=[
            _said(*values) for values in zip(points["model"], points["score"], points["cost"], strict=True)
        ],
    )
    has_zero = bool((points["cost"] == 0).any())
    labels = f"datum.value < {ticks[0] * 0.99} ? '0' : format(datum.value, '~g')"
    axis = alt.Axis(grid=False, values=[nothing] * has_zero + ticks, labelExpr=labels, labelOverlap=True)
    plane = Plane.around([*points["at"], *ticks], points["score"].tolist(), *size_px)
    log = alt.Scale(type="log", nice=False, domain=list(plane.x))
    x = alt.X("at:Q", title=title, scale=log, axis=axis)
    linear = alt.Scale(zero=False, nice=False, domain=list(plane.y))
    y = alt.Y("score:Q", title=score, scale=linear, axis=alt.Axis(tickCount=6))
    line = alt.Chart(pareto_front(points)).mark_line(
        color=INK, strokeDash=[4, 3], opacity=0.8, description="Pareto front"
    )
    dots = alt.Chart(points)
    layers: list[Any] = [line.encode(x, y)]
    known = families or Families(points["family"])
    looks = known.colour(points["family"]), known.shape(points["family"])
    if (points["low"] > 0).any():
        ranges = dots.transform_filter("datum.low > 0").mark_rule(color=INK, opacity=0.6)
        layers.append(ranges.encode(alt.X("low:Q"), alt.X2("high"), y))
    for kind, filled in (("measured", True), ("published", False)):
        if (points["kind"] == kind).any():
            marks = dots.transform_filter(alt.datum.kind == kind)
            points_of = marks.mark_point(size=70, opacity=1, filled=filled, strokeWidth=2)
            layers.append(points_of.encode(x, y, *looks, description="said:N"))
    named = alt.Chart(_named(points, plane)).mark_text(align="left", fontSize=10, color=INK)
    names = named.encode(alt.X("at:Q", scale=log), alt.Y("score:Q", scale=linear), text="model:N")
    chart = alt.layer(*layers, names).properties(width=size_px[0], height=size_px[1])
    return chart.properties(title=_hidden_title(hidden)) if hidden else chart


def _named(points: pd.DataFrame, plane: Plane) -> pd.DataFrame:
    """The names with places, those on the front first; the others are left to tooltips."""
    front = pareto_front(points)
    ordered = pd.concat([front[::-1], points.drop(front.index)])
    line = list(zip(front["at"], front["score"], strict=True))
    places = plane.labels(list(zip(ordered["at"], ordered["score"], ordered["model"], strict=True)), line)
    return pd.DataFrame(
        [
            {"at": place[0], "score": place[1], "model": name}
            for place, name in zip(places, ordered["model"], strict=True)
            if place
        ],
        columns=["at", "score", "model"],
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis all along the values: powers of ten, with 2 and 5 or all times these on a short axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    steps = range(1, 10) if 0 < decades < SHORTEST_DECADES else (1, 2, 5) if decades < SHORT_DECADES else (1,)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    lower = [tick for tick in found if tick <= low * 1.001]
    upper = [tick for tick in found if tick >= high * 0.999]
    return [tick for tick in found if max(lower) <= tick <= min(upper)]


def _said(model: str, score: float, cost: float) -> str:
    return f"{model}: {score:.1f} %, cost {cost:.3g}"


def _hidden_title(hidden: Sequence[str]) -> alt.Title:
    names = ", ".join(chart_data([{"name": name} for name in hidden[:MOST_NAMED]])["name"])
    more = f" and {len(hidden) - MOST_NAMED} more" if len(hidden) > MOST_NAMED else ""
    return alt.Title(
        f"not shown, no comparable cost: {names}{more}",
        fontSize=10,
        fontWeight="normal",
        anchor="start",
        color=INK,
    )
