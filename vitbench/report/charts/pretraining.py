"""Mean accuracy against counted pre-training FLOPs, a line for each family and a panel for each setting (ViT paper, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import INK, Spec, chart_data, drawable, percent_axis
from vitbench.report.leaderboard import Board

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

BASELINE = "baseline"  # the family of raw pixels, which a rule stands for
FEWEST = 2  # budgets of a family, to make a line


def _draw(boards: Sequence[Board], _records: Sequence[Record], families: Families) -> list[Drawing]:
    spec = pretraining_chart(pretraining_points(boards), families)
    label = (
        "Line charts of mean accuracy against counted pre-training FLOPs, one line per family and one panel per setting; "
        "the tables have the numbers."
    )
    return [] if spec is None else [Drawing(spec, label)]


def _points(boards: Sequence[Board], _records: Sequence[Record]) -> dict[str, Any]:
    found = pretraining_points(boards)
    if found.empty:
        return {}
    axis = (
        "Mean accuracy in percent against pre-training TFLOPs, counted by those who trained the networks, which are not "
        "TPU-core-days. Leftmost points: the same networks, randomly initialised. Dashed: raw pixels. Bars: 95 % intervals."
    )
    labels = set(found["setting"])
    return {
        "count": len(found), "what": "means", "axis": axis, "baseline": BASELINE,
        "boards": [board.key for board in boards if drawable(board.label) in labels],
    }  # fmt: skip


PRETRAINING = Chart(
    "pretraining",
    "Mean accuracy against pre-training compute, by family",
    "run",
    _draw,
    points=_points,
)


def pretraining_points(boards: Sequence[Board]) -> pd.DataFrame:
    """Complete measured rows whose pre-training FLOPs are known, on the boards where a family has several budgets."""
    rows = []
    for board in boards:
        own = [
            {
                "setting": board.label, "model": row.backbone, "family": row.family,
                "flops": row.compute.pretrain_flops, "score": row.mean,
                "low": row.interval.low if row.interval else row.mean,
                "high": row.interval.high if row.interval else row.mean,
            }
            for row in board.rows
            if row.mean is not None and row.compute.pretrain_flops is not None and not row.published
        ]  # fmt: skip
        trained = [str(row["family"]) for row in own if row["flops"]]
        if any(trained.count(family) >= FEWEST for family in trained):
            rows += own
    return chart_data(rows)


def pretraining_chart(points: pd.DataFrame, families: Families | None = None) -> Spec | None:
    """The panels; None where no family has several budgets. An untrained network has a place left of the logarithmic axis."""
    if points.empty:
        return None
    least = float(points["flops"][points["flops"] > 0].min())
    nothing = least / 4
    points = points.assign(at=points["flops"].where(points["flops"] > 0, nothing).astype(float))
    labels = f"datum.value < {least * 0.9} ? 'untrained' : format(datum.value, '.0e')"
    most = float(points["at"].max())
    ticks = [nothing, *(10.0**power for power in range(10, 26) if least <= 10.0**power <= most * 1.01)]
    axis = alt.Axis(values=ticks, labelExpr=labels, grid=False)
    x = alt.X(
        "at:Q", title="pre-training FLOPs (counted)", scale=alt.Scale(type="log", nice=False), axis=axis
    )
    y = alt.Y("score:Q", title="mean top-1", scale=alt.Scale(zero=False), axis=percent_axis())
    base = alt.Chart(points)
    networks = base.transform_filter(alt.datum.family != BASELINE)
    named = points["family"][points["family"] != BASELINE]
    colour = (families or Families(points["family"])).colour(named)
    bars = networks.mark_rule(opacity=0.5).encode(x, alt.Y("low:Q"), alt.Y2("high"), colour)
    line = networks.mark_line().encode(x, y, colour)
    dots = networks.mark_point(filled=True, size=45, opacity=1).encode(x, y, colour, description="model:N")
    pixels = base.transform_filter(alt.datum.family == BASELINE)
    rule = pixels.mark_rule(color=INK, strokeDash=[4, 3]).encode(y)
    panels = alt.layer(rule, bars, line, dots).properties(width=300, height=210)
    settings = alt.Facet("setting:N", title=None, sort=points["setting"].unique().tolist())
    facets: alt.FacetChart = panels.facet(facet=settings, columns=3).resolve_scale(y="independent")
    return facets
