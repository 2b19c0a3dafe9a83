"""Trials: the validation score of each value of a swept hyper-parameter, such as the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import altair as alt

from vitbench.core.record import Record
from vitbench.report.charts.style import PERCENT, Chart, chart_data, colour_by, panels_by


def trials_chart(points: Sequence[TrialPoint]) -> Chart | None:
    """What every setting of the swept option scored where it was chosen, a panel per task; the chosen ones are filled."""
    if not points:
        return None
    option = points[0].option
    frame = chart_data([asdict(point) for point in points])
    frame["run"] = frame["backbone"] + frame["seed"].astype(str)
    scale = alt.Scale(type="log" if bool((frame["setting"] > 0).all()) else "linear")
    x = alt.X("setting:Q", title=option, scale=scale, axis=alt.Axis(grid=False, tickCount=5, format="~g"))
    y = alt.Y("value:Q", title="score on validation", axis=PERCENT, scale=alt.Scale(zero=False))
    base = alt.Chart(frame)
    lines = base.mark_line(strokeWidth=1.5, opacity=0.8).encode(x, y, colour_by("backbone"), detail="run:N")
    chosen = base.transform_filter("datum.chosen").mark_point(filled=True, size=60, opacity=1)
    panels = alt.layer(lines, chosen.encode(x, y, colour_by("backbone"))).properties(width=300, height=190)
    return panels_by(panels, "task", 3, y="independent")


@dataclass(frozen=True)
class TrialPoint:
    """What one setting of a swept option scored on the split that chooses."""

    task: str
    backbone: str
    seed: int
    option: str
    setting: float
    value: float
    chosen: bool


def trial_points(records: Iterable[Record]) -> list[TrialPoint]:
    """Trials of jobs that swept one number, such as the learning rate."""
    found = []
    for record in records:
        trials = [trial for trial in record.trials if trial.value is not None]
        names = {name for trial in trials for name in trial.options}
        swept = [n for n in sorted(names) if len({repr(trial.options.get(n)) for trial in trials}) > 1]
        if len(swept) != 1:
            continue
        option, job = swept[0], record.job
        for trial in trials:
            setting = trial.options.get(option)
            if isinstance(setting, int | float) and trial.value is not None:
                found.append(
                    TrialPoint(
                        job.task.label, job.backbone.label, job.seed, option, setting, trial.value, trial.chosen
                    )
                )  # fmt: skip
    return found
