"""The metric that a board shows for a task: the task's own main one, or the one that suites ask for."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import cast

from vitbench.core.metric_names import title_of
from vitbench.core.record import FurtherMetric, FurtherName, Metric, Record
from vitbench.report.leaderboard import Column
from vitbench.report.main_metric import main_metric

MADE_EARLIER = "made by an earlier version, which did not measure it"


def asked_metrics(records: Iterable[Record]) -> dict[str, tuple[str, str]]:
    """By the task's label: the metric that its suites ask for, '' for the task's own, and a note if they do not agree.

    One column shows one metric. Where suites disagree it is the task's own, which every record has.
    """
    asked: dict[str, dict[str, str]] = defaultdict(dict)
    for record in records:
        asked[record.job.task.label].setdefault(record.job.suite.metric, record.job.suite.name)
    found = {}
    for task, by_metric in asked.items():
        if len(by_metric) == 1:
            found[task] = (next(iter(by_metric)), "")
        else:
            wanted = (
                f"{title_of(metric) if metric else 'its own'} in {suite}"
                for metric, suite in by_metric.items()
            )
            found[task] = ("", f"shown by its own metric, as suites disagree: {', '.join(wanted)}")
    return found


def value_of(record: Record, metric: str) -> Metric | FurtherMetric | None:
    """A record's value of a metric, '' for its task's own; None if it has none."""
    if not metric:
        return main_metric(record)
    if metric in record.metrics:
        return record.metrics[metric]
    found = record.further.get(cast("FurtherName", metric))
    return found if found is not None and found.value is not None else None


def lacking(records: Iterable[Record], metric: str) -> str:
    """Why finished records have no value of a metric; '' if none is finished."""
    reasons = []
    for record in records:
        if record.status == "ok":
            found = record.further.get(cast("FurtherName", metric))
            reasons.append(found.note if found and found.note else MADE_EARLIER)
    return f"no {title_of(metric)}: {'; '.join(dict.fromkeys(reasons))}" if reasons else ""


def interval_of(metrics: Sequence[Metric | FurtherMetric]) -> tuple[float | None, float | None]:
    """The means of the bounds over seeds; None unless every one is known."""
    lows, highs = (
        [bound for m in metrics if (bound := getattr(m, name)) is not None] for name in ("ci_low", "ci_high")
    )
    if len(lows) < len(metrics) or len(highs) < len(metrics):
        return None, None
    return statistics.fmean(lows), statistics.fmean(highs)


def axis_title(columns: Iterable[Column]) -> str:
    """What scores of these columns are called on a chart: their metric, or accuracy if there are several."""
    return joint_title(column.metric or column.shown for column in columns)


def joint_title(metrics: Iterable[str]) -> str:
    """What scores by these metrics are called together; '' is a task's own metric, usually top-1."""
    titles = {title_of(metric or "top1") for metric in metrics}
    return titles.pop() if len(titles) == 1 else "accuracy"
