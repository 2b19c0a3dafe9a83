"""The metric of a board: the task's own main one, or the one that suites ask for. For boards, comparisons and ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from vitbench.core.metric_names import title_of
from vitbench.core.record import FurtherName, Record

if TYPE_CHECKING:
    from vitbench.report.board_parts import Column

MADE_EARLIER = "made by an earlier version, which did not measure it"


@dataclass(frozen=True)
class Score:
    """A record's value of a metric over n images, with its 95 % interval over images; None where none is known.

    `clusters` is how many clusters the images belong together in, if they do.
    """

    value: float
    n: int
    interval: tuple[float, float] | None
    clusters: int | None = None

    @property
    def exact(self) -> Fraction:
        """The fraction of its images that it counts; of a score that is no such fraction, its float."""
        hits = round(self.value * self.n)
        return Fraction(hits, self.n) if hits / self.n == self.value else Fraction(self.value)


def exact_mean(scores: Sequence[Score]) -> Fraction:
    """The mean of scores as a fraction, so that equal counts of correct images are equal."""
    return sum((score.exact for score in scores), Fraction(0)) / len(scores)


def main_metric_name(record: Record) -> str | None:
    """The name of the task's own main score: its first metric, usually top-1 accuracy; None without any."""
    return next(iter(record.metrics), None)


def asked_metrics(records: Iterable[Record]) -> dict[str, tuple[str, str]]:
    """By the task's label: the metric that its suites ask for, '' for the task's own, and a note if they do not agree.

    One column shows one metric. Where suites disagree it is the task's own, which every record has.
    """
    asked: dict[str, dict[str, str]] = defaultdict(dict)
    own: dict[str, str] = {}
    for record in records:
        task, name = record.job.task.label, main_metric_name(record)
        asked[task].setdefault(record.job.suite.metric, record.job.suite.name)
        if name:
            own.setdefault(task, name)
    return {task: _agreed(by_metric, own.get(task, "")) for task, by_metric in asked.items()}


def _agreed(suite_of: dict[str, str], own: str) -> tuple[str, str]:
    """The metric that all ask for, whose suites are given by metric; the task's own by its name is as good as ''."""
    wanted = {"" if metric == own else metric for metric in suite_of}
    if len(wanted) == 1:
        return wanted.pop(), ""
    said = (f"{title_of(metric) if metric else 'its own'} in {suite}" for metric, suite in suite_of.items())
    return "", f"shown by its own metric, as suites disagree: {', '.join(said)}"


def value_of(record: Record, metric: str = "") -> Score | None:
    """A record's value of a metric, '' for its task's own; None if it has none."""
    name = metric or main_metric_name(record)
    if name in record.metrics:
        own = record.metrics[name]
        return Score(own.value, own.n, (own.ci_low, own.ci_high), own.clusters)
    found = record.further.get(cast("FurtherName", name))
    if found is None or found.value is None:
        return None
    low, high = found.ci_low, found.ci_high
    clusters = next((own.clusters for own in record.metrics.values()), None)
    return Score(found.value, found.n, None if low is None or high is None else (low, high), clusters)


def is_by_image(record: Record, metric: str) -> bool:
    """Whether predictions say which images count as correct by a metric: those that the task scores, not the further ones."""
    return not metric or metric in record.metrics


def lacking(records: Iterable[Record], metric: str) -> str:
    """Why finished records have no value of a metric; '' if none is finished."""
    reasons = []
    for record in records:
        if record.status == "ok":
            found = record.further.get(cast("FurtherName", metric))
            reasons.append(found.note if found and found.note else MADE_EARLIER)
    return f"no {title_of(metric)}: {'; '.join(dict.fromkeys(reasons))}" if reasons else ""


def axis_title(columns: Iterable[Column]) -> str:
    """What scores of these columns are called on a chart: their metric, or accuracy if there are several."""
    return joint_title(column.metric or column.shown for column in columns)


def joint_title(metrics: Iterable[str]) -> str:
    """What scores by these metrics are called together; '' is a task's own metric, usually top-1."""
    titles = {title_of(metric or "top1") for metric in metrics}
    return titles.pop() if len(titles) == 1 else "accuracy"
