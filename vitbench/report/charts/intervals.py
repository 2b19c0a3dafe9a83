"""Means with intervals: a panel for each VTAB group, and a panel for each task with its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import INK, Spec, chart_data, panels_by
from vitbench.report.leaderboard import GROUP_MEAN, Board
from vitbench.report.shown_metric import axis_title

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

COLUMNS = 4


def _draw_groups(boards: Sequence[Board], _records: Sequence[Record], families: Families) -> list[Drawing]:
    spec = interval_chart(group_points(boards[0]), _title(boards[0]), families)
    label = "Means over VTAB and its groups, one panel each; the table has the numbers."
    return [] if spec is None else [Drawing(spec, label)]


def _draw_seeds(boards: Sequence[Board], _records: Sequence[Record], families: Families) -> list[Drawing]:
    spec = interval_chart(seed_points(boards[0]), axis_title(boards[0].columns), families)
    label = (
        "Scores of every backbone, one panel per task: mean, seeds and 95 % interval over test images and seeds; "
        "the numbers are listed under All results."
    )
    return [] if spec is None else [Drawing(spec, label)]


def _points_of_groups(boards: Sequence[Board], _records: Sequence[Record]) -> dict[str, Any]:
    points, title = group_points(boards[0]), _title(boards[0])
    axis = f"Mean {title}, %. Grey bars: 95 % intervals."
    return {"count": points["backbone"].nunique(), "what": "backbones", "axis": axis} if len(points) else {}


def _points_of_seeds(boards: Sequence[Board], _records: Sequence[Record]) -> dict[str, Any]:
    points, title = seed_points(boards[0]), axis_title(boards[0].columns)
    axis = f"{title[0].upper()}{title[1:]}, %. Points: means. Ticks: seeds. Grey bars: 95 % intervals over images and seeds."
    return {"count": points["backbone"].nunique(), "what": "backbones", "axis": axis} if len(points) else {}


MOST_SEEDED = 100  # cells with a panel that shows their seeds
GROUPS = Chart("groups", "VTAB groups", "board", _draw_groups, most_cells=1200, points=_points_of_groups)
SEEDS = Chart(
    "seeds",
    "Seeds and intervals",
    "board",
    _draw_seeds,
    folded=True,
    most_cells=MOST_SEEDED,
    points=_points_of_seeds,
)


def group_points(board: Board) -> pd.DataFrame:
    """Means over all of VTAB and over its groups (ViT paper, Fig. 2), complete rows only."""
    return chart_data([
        {
            "panel": name.capitalize() if name in board.groups else name, "backbone": row.backbone, "family": row.family,
            "value": mean,
            "low": interval and interval.low, "high": interval and interval.high, "seeds": [],
            "hollow": row.published,
        }
        for row in (board.rows if board.groups else ())
        for (name, mean), interval in zip(
            [("VTAB, 19 tasks" if len(row.tasks) == 19 else "all tasks", row.mean), *board.group_means(row)],
            [row.interval, *board.group_intervals(row)],
            strict=True,
        )
        if mean is not None and name != GROUP_MEAN
    ])  # fmt: skip


def seed_points(board: Board) -> pd.DataFrame:
    """Each measured cell: its mean, its seeds, and its 95 % interval over test images and seeds."""
    return chart_data([
        {
            "panel": column.label, "backbone": row.backbone, "family": row.family, "value": cell.value,
            "low": cell.ci_low, "high": cell.ci_high, "seeds": list(cell.by_seed),
        }
        for i, column in enumerate(board.columns)
        for row in board.rows
        if not row.published and (cell := row.cells[i]).value is not None
    ])  # fmt: skip


def _title(board: Board) -> str:
    return axis_title(column for column in board.columns if column.counted)


def interval_chart(
    points: pd.DataFrame, title: str = "top-1", families: Families | None = None
) -> Spec | None:
    """Panels side by side, backbones as rows; None without points.

    Points are (panel, backbone, family, value, low, high, seeds), and `hollow` where they are published.
    """
    if points.empty:
        return None
    points = points if "hollow" in points else points.assign(hollow=False)
    order = points["backbone"].drop_duplicates().tolist()
    y = alt.Y("backbone:N", title=None, sort=order, axis=alt.Axis(labelLimit=180, grid=True))
    axis = alt.Axis(format=".0%", tickCount=4, grid=False, labelOverlap=True)
    x = alt.X("value:Q", title=title, axis=axis, scale=alt.Scale(zero=False))
    said = [
        _said(*each)
        for each in zip(points["backbone"], points["value"], points["low"], points["high"], strict=True)
    ]
    base = alt.Chart(points.assign(said=said))
    bars = base.mark_rule(color=INK, strokeWidth=5, opacity=0.35).encode(alt.X("low:Q"), alt.X2("high"), y)
    seeds = base.transform_flatten(["seeds"]).mark_tick(thickness=1.5, size=12, color=INK)
    known = families or Families(points["family"])
    looks = known.colour(points["family"]), known.shape(points["family"])
    dots = [
        base.transform_filter(alt.datum.hollow == hollow)
        .mark_point(filled=not hollow, size=45, opacity=1, strokeWidth=2)
        .encode(x, y, *looks, description="said:N")
        for hollow in sorted(set(points["hollow"]))
    ]
    panels = alt.layer(bars, seeds.encode(alt.X("seeds:Q"), y), *dots)
    return panels_by(
        panels.properties(width=190, height=17 * len(order) + 6), "panel", COLUMNS, x="independent"
    )


def _said(backbone: str, value: float, low: float | None, high: float | None) -> str:
    known = low is not None and high is not None and low == low  # a table's gap is NaN
    return f"{backbone}: {value:.1%}" + (f", 95 % interval {low:.1%} to {high:.1%}" if known else "")
