"""Accuracy against examples per class: one panel per task and protocol."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import altair as alt

from vitbench.core.job import shots_of
from vitbench.core.record import Record
from vitbench.report.build import main_metric, setting_label
from vitbench.report.charts.style import PERCENT, Chart, chart_data, colour_by, panels_by
from vitbench.report.keys import curve_key


@dataclass(frozen=True)
class ShotsPoint:
    """One point of a shots curve, with the lowest and highest seed."""

    task: str
    protocol: str
    backbone: str
    shots: int
    value: float
    low: float
    high: float


def shots_points(records: Sequence[Record]) -> list[ShotsPoint]:
    """Scores at every N-shot budget; what was measured differently is a curve of its own."""
    shot = [record for record in records if shots_of(record.job.budget) and main_metric(record)]
    pairs = [(curve_key(record.job), _curve(record)) for record in shot]
    labels = dict(pairs)
    names = list(labels.values())
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (key, _), record in zip(pairs, shot, strict=True):
        metric = main_metric(record)
        if metric is not None:
            found[key, shots_of(record.job.budget) or 0].append(metric.value)
    points = []
    for (key, shots), values in found.items():
        task, protocol, backbone = labels[key]
        apart = f" #{key[:4]}" if names.count(labels[key]) > 1 else ""
        mean = statistics.fmean(values)
        points.append(ShotsPoint(task, protocol, backbone + apart, shots, mean, min(values), max(values)))
    return points


def _curve(record: Record) -> tuple[str, str, str]:
    job = record.job
    protocol = setting_label(record).replace(f" · {job.budget}", "", 1)
    return job.task.label, protocol, job.backbone.label


def shots_chart(points: Sequence[ShotsPoint]) -> Chart | None:
    """Accuracy against shots, a panel per task and protocol, a band from the lowest to the highest seed (ViT paper, Fig. 4)."""
    if len({point.shots for point in points}) < 2:
        return None
    frame = chart_data([asdict(point) for point in points])
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
        x, alt.Y("low:Q", title="top-1", axis=PERCENT), alt.Y2("high"), colour_by("backbone")
    )
    line = base.mark_line(point=True).encode(
        x, alt.Y("value:Q", title="top-1", axis=PERCENT), colour_by("backbone")
    )
    panels = alt.layer(band, line).properties(width=300, height=210)
    return panels_by(panels, "panel", 3, y="independent")
