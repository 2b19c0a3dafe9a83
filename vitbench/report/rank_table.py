"""The ranks of all backbones of each setting: the results of `vitbench compare` without names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vitbench.report.board_statistics import cell_estimate
from vitbench.report.compare import Found, Scope, found_cells, scores_of
from vitbench.report.keys import distinct_labels
from vitbench.report.outcomes import Predictions, Table, tables
from vitbench.report.ranks import Column, Place, Ranks, column_of_estimates, column_of_tables, places, ranked
from vitbench.report.shown_metric import exact_mean, main_metric_name
from vitbench.report.statistics import Estimate, Interval, Point, inside, mean_of


@dataclass(frozen=True)
class Ranked:
    """A backbone's mean over the tasks of a setting with its interval, and its rank; without what no interval is known for."""

    mean: Interval | Point
    rank: Ranks | Place
    scope: Scope


def ranks(runs: Sequence[Path]) -> dict[str, dict[str, Ranked]]:
    """By setting and backbone. Like the board, only backbones with all tasks and all seeds.

    Raises:
        UsageError: a run has no records, or predictions are missing or damaged.
    """
    found, predictions = found_cells(runs)
    by_setting: dict[str, dict[str, dict[str, Found]]] = defaultdict(lambda: defaultdict(dict))
    for cell, each in found.items():
        by_setting[cell.setting][each.backbone][cell.task] = each
    titles = distinct_labels((setting, _title(rows)) for setting, rows in by_setting.items())
    whole = {setting: _whole(rows) for setting, rows in by_setting.items()}
    return {titles[setting]: _ranked(rows, predictions) for setting, rows in whole.items() if len(rows) > 1}


def _whole(rows: Mapping[str, dict[str, Found]]) -> dict[str, dict[str, Found]]:
    """The backbones that have every task of the setting, each with every seed."""
    every = [each for own in rows.values() for each in own.values()]
    tasks = {task for own in rows.values() for task in own}
    asked = {label for each in every for label in (each.record.job.task.label, *each.record.job.suite.tasks)}
    return {
        name: own
        for name, own in rows.items()
        if set(own) == tasks
        and {each.record.job.task.label for each in own.values()} >= asked
        and all(each.complete for each in own.values())
    }


def _ranked(rows: Mapping[str, dict[str, Found]], predictions: Predictions) -> dict[str, Ranked]:
    by_task = [
        _column([own[task] for own in rows.values()], predictions) for task in next(iter(rows.values()))
    ]
    exact = [_exact(list(own.values())) for own in rows.values()]
    columns = [column for column, _ in by_task if column]
    known = len(columns) == len(by_task)
    found = ranked(columns, exact) if known else [Place(place) for place in places(exact)]
    result = {}
    for k, (name, own) in enumerate(rows.items()):
        estimates = [each for _, column in by_task if (each := column[k])]
        mean = inside(mean_of(estimates).interval) if known else Point(float(exact[k]))
        scope: Scope = (
            "backbones" if all(each.scope == "backbones" for each in own.values()) else "trained networks"
        )
        result[name] = Ranked(mean, found[k], scope)
    return result


def _column(
    cells: Sequence[Found], predictions: Predictions
) -> tuple[Column | None, Sequence[Estimate | None]]:
    """One task: its column, None if no interval of its metric is known, and the estimates of its cells."""
    scores = [scores_of(each.records, each.metric) for each in cells]
    if all(each.by_image for each in cells):
        outcomes = _outcomes(cells, predictions)
        return column_of_tables(outcomes), list(map(cell_estimate, scores, outcomes))
    every = [cell_estimate(own, None) for own in scores]
    known = [each for each in every if each]
    n = min(score.n for own in scores for score in own)
    return column_of_estimates(known, n) if len(known) == len(every) else None, every


def _outcomes(cells: Sequence[Found], predictions: Predictions) -> list[Table]:
    metric = cells[0].metric or main_metric_name(cells[0].record)
    return tables([each.records for each in cells], predictions, metric)


def _exact(cells: Sequence[Found]) -> Fraction:
    means = [exact_mean(scores_of(each.records, each.metric)) for each in cells]
    return sum(means, Fraction(0)) / len(means)


def _title(rows: Mapping[str, dict[str, Found]]) -> str:
    job = next(iter(next(iter(rows.values())).values())).record.job
    return f"{job.protocol.label} · {job.budget}"
