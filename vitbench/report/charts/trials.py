"""Validation score of each value of a swept hyper-parameter, such as the learning rate, a panel for each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families, dashes, family_of
from vitbench.report.charts.style import Spec, chart_data, panels_by, percent_axis
from vitbench.report.leaderboard import Board

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")


def _draw(_boards: Sequence[Board], records: Sequence[Record], families: Families) -> list[Drawing]:
    points = trial_points(records)
    if points.empty:
        return []
    return [
        Drawing(
            trials_chart(own, families), f"Validation score against {option}, one panel per task", str(option)
        )
        for option, own in points.groupby("option", sort=False)
    ]


TRIALS = Chart("trials", "Hyper-parameter trials", "board", _draw, most_cells=0)


def trial_points(records: Iterable[Record]) -> pd.DataFrame:
    """The trials of jobs that swept one numeric option."""
    return chart_data([point for record in records for point in _swept(record)])


def _swept(record: Record) -> Iterator[dict[str, Any]]:
    trials = [trial for trial in record.trials if trial.value is not None]
    names = {name for trial in trials for name in trial.options}
    swept = [n for n in sorted(names) if len({repr(trial.options.get(n)) for trial in trials}) > 1]
    if len(swept) != 1:
        return
    (option,), job = swept, record.job
    for trial in trials:
        setting = trial.options.get(option)
        if isinstance(setting, int | float):
            yield {
                "task": job.task.label, "backbone": job.backbone.label, "family": family_of(record), "seed": job.seed,
                "option": option, "setting": setting, "value": trial.value, "chosen": trial.chosen,
            }  # fmt: skip


def trials_chart(points: pd.DataFrame, families: Families | None = None) -> Spec:
    """The validation score of every setting of one option; chosen settings are filled."""
    scale = alt.Scale(type="log" if bool((points["setting"] > 0).all()) else "linear")
    title = str(points["option"].iloc[0])
    x = alt.X("setting:Q", title=title, scale=scale, axis=alt.Axis(grid=False, tickCount=5, format="~g"))
    y = alt.Y("value:Q", title="validation score", axis=percent_axis(), scale=alt.Scale(zero=False))
    runs = points["backbone"] + " seed " + points["seed"].astype(str)
    said = [
        f"{run}: {title} {setting:g}, {value:.1%}"
        for run, setting, value in zip(runs, points["setting"], points["value"], strict=True)
    ]
    base = alt.Chart(points.assign(run=runs, said=said))
    colour = (families or Families(points["family"])).colour(points["family"], symbol="stroke")
    lines = base.mark_line(strokeWidth=1.5, opacity=0.8)
    lines = lines.encode(
        x, y, colour, dashes("backbone", points["backbone"]), detail="run:N", description="run:N"
    )
    chosen = base.transform_filter("datum.chosen").mark_point(filled=True, size=60, opacity=1)
    panels = alt.layer(lines, chosen.encode(x, y, colour, description="said:N")).properties(
        width=300, height=190
    )
    return panels_by(panels, "task", 3, y="independent")
