"""Accuracy against examples per class, a panel for each task and protocol."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.job import shots_of
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.build import setting_label
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families, dashes, family_of
from vitbench.report.charts.style import INK, Spec, chart_data, panels_by, percent_axis
from vitbench.report.keys import curve_key
from vitbench.report.leaderboard import Board
from vitbench.report.shown_metric import asked_metrics, joint_title, value_of

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

HEIGHT_PX, LINE_PX = 210, 15  # of a panel, and of a name at the end of a curve


def _draw(_boards: Sequence[Board], records: Sequence[Record], families: Families) -> list[Drawing]:
    asked = {metric for metric, _ in asked_metrics(records).values()}
    spec = shots_chart(shots_points(records), joint_title(asked), families)
    label = (
        "Line charts of accuracy against examples per class, one panel per task; "
        "the tables above and below have the numbers."
    )
    return [] if spec is None else [Drawing(spec, label)]


def _points(_boards: Sequence[Board], records: Sequence[Record]) -> dict[str, Any]:
    found = shots_points(records)
    if found.empty or found["shots"].nunique() < 2:
        return {}
    names = found["backbone"].drop_duplicates().tolist()
    panels = [
        {"task": task, "title": f"{task} · {protocol}", "curves": _curves(own, names)}
        for (task, protocol), own in found.groupby(["task", "protocol"], sort=False)
    ]
    title = joint_title({metric for metric, _ in asked_metrics(records).values()})
    axis = (
        f"{title[0].upper()}{title[1:]} in percent against images per class. Bands: lowest to highest seed."
    )
    ticks = sorted(found["shots"].unique().tolist())
    return {
        "count": len(names),
        "what": "backbones",
        "axis": axis,
        "names": names,
        "ticks": ticks,
        "panels": panels,
    }


def _curves(points: pd.DataFrame, names: Sequence[str]) -> list[list[Any]]:
    """By backbone: its position among the names, its family, then by budget: shots, mean, lowest and highest seed."""
    return [
        [names.index(str(name)), str(own["family"].iloc[0]), *(
            [int(shots), *(round(float(v), 5) for v in values)]
            for shots, *values in own.sort_values("shots")[["shots", "value", "low", "high"]].itertuples(index=False)
        )]
        for name, own in points.groupby("backbone", sort=False)
    ]  # fmt: skip


SHOTS = Chart(
    "shots",
    "Accuracy against examples per class",
    "run",
    _draw,
    points=_points,
)


def shots_points(records: Sequence[Record]) -> pd.DataFrame:
    """Mean, lowest and highest seed at each N-shot budget; results measured differently are on separate curves."""
    values: dict[tuple[str, int], list[float]] = defaultdict(list)
    labels, family, asked = {}, {}, asked_metrics(records)
    for record in records:
        shots, metric = shots_of(record.job.budget), value_of(record, asked[record.job.task.label][0])
        if shots and metric:
            key = curve_key(record.job)
            values[key, shots].append(metric.value)
            labels[key], family[key] = _curve(record), family_of(record)
    names = list(labels.values())
    return chart_data([
        {
            "task": task, "protocol": protocol,
            "backbone": f"{backbone} #{key[:4]}" if names.count(labels[key]) > 1 else backbone,
            "family": family[key],
            "shots": shots, "value": statistics.fmean(seeds), "low": min(seeds), "high": max(seeds),
        }
        for (key, shots), seeds in values.items()
        for task, protocol, backbone in [labels[key]]
    ])  # fmt: skip


def _curve(record: Record) -> tuple[str, str, str]:
    job = record.job
    protocol = setting_label(record).replace(f" · {job.budget}", "", 1)
    return job.task.label, protocol, job.backbone.label


def shots_chart(points: pd.DataFrame, title: str = "top-1", families: Families | None = None) -> Spec | None:
    """Accuracy against shots, with a band from the lowest to the highest seed (ViT paper, Fig. 4); None for one budget."""
    if points.empty or points["shots"].nunique() < 2:
        return None
    shots = sorted(points["shots"].unique().tolist())
    x = alt.X(
        "shots:Q",
        title="examples per class",
        scale=alt.Scale(
            type="log", domain=[shots[0], shots[-1] * (shots[-1] / shots[0]) ** 0.45], nice=False
        ),
        axis=alt.Axis(values=shots, grid=False),
    )
    said = [
        f"{name}: {value:.1%} ({low:.1%} to {high:.1%}) with {shots} per class"
        for name, value, low, high, shots in zip(
            points["backbone"], points["value"], points["low"], points["high"], points["shots"], strict=True
        )
    ]
    base = alt.Chart(
        points.assign(
            panel=points["task"] + " · " + points["protocol"], said=said, label=_label_heights(points)
        )
    )
    known = families or Families(points["family"])
    y = alt.Y("value:Q", title=title, axis=percent_axis())
    looks = (
        known.colour(points["family"], symbol="stroke"),
        dashes("backbone", points["backbone"], with_legend=False),
    )
    band = base.mark_area(opacity=0.15).encode(
        x,
        alt.Y("low:Q", title=title, axis=percent_axis()),
        alt.Y2("high"),
        looks[0],
        detail="backbone:N",
        description="backbone:N",
    )
    line = base.mark_line().encode(x, y, *looks, detail="backbone:N", description="backbone:N")
    dots = base.mark_point(filled=True, size=30, opacity=1).encode(x, y, looks[0], description="said:N")
    last = base.transform_filter(alt.datum.shots == shots[-1]).mark_text(
        align="left", dx=6, fontSize=10, color=INK
    )
    named = last.encode(x, alt.Y("label:Q", axis=percent_axis(), title=title), text="backbone:N")
    panels = alt.layer(band, line, dots, named).properties(width=300, height=HEIGHT_PX)
    return panels_by(panels, "panel", 3, y="independent")


def _label_heights(points: pd.DataFrame) -> pd.Series[float]:
    """Where the names at the ends of curves stand: beside their last value, moved apart where they would overlap."""
    heights = points["value"].astype(float).copy()
    panels = points.groupby(["task", "protocol"], sort=False)
    for _, own in panels:
        ends = own[own["shots"] == points["shots"].max()].sort_values("value")
        apart = float(own["high"].max()) * LINE_PX / HEIGHT_PX  # the axis begins at zero
        lowest = float("-inf")
        for i, value in ends["value"].items():
            heights[i] = lowest = max(float(value), lowest + apart)
    return heights
