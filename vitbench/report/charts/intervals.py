"""Means with intervals: one panel per task, or per group of VTAB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from vitbench.report.charts.style import INK, PALETTE, Chart, chart_data, panels_by
from vitbench.report.leaderboard import Board


def interval_chart(rows: Sequence[dict[str, Any]], columns: int) -> Chart | None:
    """Rows of (panel, backbone, value, low, high, seeds): backbones below each other, a panel beside the other."""
    if not rows:
        return None
    frame = chart_data(rows)
    order = frame["backbone"].drop_duplicates().tolist()
    y = alt.Y("backbone:N", title=None, sort=order, axis=alt.Axis(labelLimit=180, grid=True))
    axis = alt.Axis(format=".0%", tickCount=4, grid=False)
    x = alt.X("value:Q", title="top-1", axis=axis, scale=alt.Scale(zero=False))
    base = alt.Chart(frame)
    bars = base.mark_rule(color=INK, strokeWidth=5, opacity=0.35).encode(alt.X("low:Q"), alt.X2("high"), y)
    seeds = base.transform_flatten(["seeds"]).mark_tick(thickness=1.5, size=12, color=PALETTE[4])
    dots = base.mark_point(filled=True, size=45, opacity=1, color=PALETTE[0]).encode(x, y)
    panels = alt.layer(bars, seeds.encode(alt.X("seeds:Q"), y), dots)
    return panels_by(
        panels.properties(width=190, height=17 * len(order) + 6), "panel", columns, x="independent"
    )


def groups_chart(board: Board) -> Chart | None:
    """Means over all of VTAB and over its groups (ViT paper, Fig. 2), complete rows only."""
    if not board.groups:
        return None
    rows: list[dict[str, Any]] = []
    for row in board.rows:
        means = [
            ("VTAB, 19 tasks" if len(row.tasks) == 19 else "all tasks", row.mean),
            *board.group_means(row),
        ]
        rows += [
            {"panel": name.capitalize() if name in board.groups else name, "backbone": row.backbone, "value": mean,
             "low": None, "high": None, "seeds": []}
            for name, mean in means if mean is not None and name != "group means"
        ]  # fmt: skip
    return interval_chart(rows, 4)


def seeds_chart(board: Board) -> Chart | None:
    """Every cell: its mean, its seeds, and the 95 % interval over test images, which is another thing."""
    rows: list[dict[str, Any]] = [
        {"panel": column.label, "backbone": row.backbone, "value": cell.value, "low": cell.ci_low, "high": cell.ci_high,
         "seeds": list(cell.by_seed)}
        for i, column in enumerate(board.columns)
        for row in board.rows if not row.published
        if (cell := row.cells[i]).value is not None
    ]  # fmt: skip
    return interval_chart(rows, 4)
