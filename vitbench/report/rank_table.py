"""The ranks of all backbones of each setting: the results of `vitbench compare` without names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vitbench.core.record import Metric
from vitbench.report.board_statistics import cell_estimate
from vitbench.report.compare import Found, Scope, found_cells
from vitbench.report.keys import distinct_labels
from vitbench.report.main_metric import exact_mean, main_metric, main_metric_name
from vitbench.report.outcomes import Predictions, Table, tables
from vitbench.report.ranks import Ranks, column_of_tables, ranked
from vitbench.report.statistics import Interval, inside, mean_of


@dataclass(frozen=True)
class Ranked:
    """A backbone's mean over the tasks of a setting with its interval, and its rank."""

    mean: Interval
    rank: Ranks
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
    cells = [[own[task] for own in rows.values()] for task in next(iter(rows.values()))]
    outcomes = [_outcomes(own, predictions) for own in cells]
    found = ranked(
        [column_of_tables(own) for own in outcomes], [_exact(list(own.values())) for own in rows.values()]
    )
    result = {}
    for k, name in enumerate(rows):
        own = [(column[k], table[k]) for column, table in zip(cells, outcomes, strict=True)]
        mean = mean_of([cell_estimate(_metrics(each), table) for each, table in own])
        scope: Scope = (
            "backbones" if all(each.scope == "backbones" for each, _ in own) else "trained networks"
        )
        result[name] = Ranked(inside(mean.interval), found[k], scope)
    return result


def _outcomes(cells: Sequence[Found], predictions: Predictions) -> list[Table]:
    return tables([each.records for each in cells], predictions, main_metric_name(cells[0].record))


def _metrics(cell: Found) -> list[Metric]:
    return [metric for record in cell.records if (metric := main_metric(record))]


def _exact(cells: Sequence[Found]) -> Fraction:
    means = [exact_mean(_metrics(each)) for each in cells]
    return sum(means, Fraction(0)) / len(means)


def _title(rows: Mapping[str, dict[str, Found]]) -> str:
    job = next(iter(next(iter(rows.values())).values())).record.job
    return f"{job.protocol.label} · {job.budget}"
