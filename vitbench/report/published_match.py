"""Match a record to published rows: those with the same weights, data, protocol, recipe and image size.

Each match states its tolerance: repeated runs differ by their seeds, and printed values are rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.core.job import Job
from vitbench.core.record import Check, Record
from vitbench.published import MEANS, PublishedRow, Value, published
from vitbench.report.published_steps import (
    IMAGENET_PIXELS,
    dropout_of,
    follows,
    has_other_settings,
    is_top1,
    is_usual,
    methods_of,
    pixels_of,
    tunes_as,
)
from vitbench.report.seeded import is_seeded
from vitbench.report.statistics import LEVEL
from vitbench.report.tolerance import WIDE, Basis, Runs, SeedSpread, Verdict, statistic_of, tolerance_of

# The preset of those rows, where other suites of ours name another.
_PRESETS = {
    "knn": "dinov2_knn",
    "linear_probe": "dinov2_knn",
    "logistic_probe": "clip",
    "own_head": "timm_eval",
}
# Items of conformance that say less than `follows`, which holds a job's protocol to the row instead of to its reference.
HELD_TO_THE_ROW = ("protocol as its reference has it",)
PIXELS = (
    "pixels as the weights expect"  # the same, where a row's authors had other pixels and the job states them
)


@dataclass(frozen=True)
class PublishedMatch:
    """A published value and how a measured one differs from it, in fractions.

    `tolerance` is None if none is known. `statistic`: of how many runs the value is what.
    """

    value: float
    std: float | None
    source: str
    weak: bool
    difference: float
    tolerance: float | None
    basis: Basis
    statistic: str = ""
    decimals: int = 1

    @property
    def verdict(self) -> Verdict:
        """Within or outside the tolerance; within one that is too wide to say much; or not known."""
        if self.tolerance is None:
            return "unknown"
        if abs(self.difference) > self.tolerance:
            return "outside"
        return "wide" if self.tolerance > WIDE else "within"


@dataclass(frozen=True)
class Tally:
    """Of the comparisons with a tolerance from seeds: how many there are, how many are outside, and how many by chance."""

    known: int
    outside: int

    @property
    def expected(self) -> float:
        """How many of equal results are outside a 95 % tolerance."""
        return self.known * (1 - LEVEL)


def tally(matches: Iterable[PublishedMatch]) -> Tally:
    """Count those with a tolerance from seeds."""
    by_seeds = [match for match in matches if match.basis == "seeds"]
    return Tally(len(by_seeds), sum(match.verdict == "outside" for match in by_seeds))


def rows_on_board(job: Job, prefixes: Iterable[str]) -> list[PublishedRow]:
    """Published rows of a job's method whose ids begin with one of the prefixes."""
    if job.limit is not None:
        return []
    methods, wanted = methods_of(job), tuple(prefixes)
    return [
        row
        for row in published()
        if row.protocol in methods and row.id.startswith(wanted or "\0") and tunes_as(row, job)
    ]


def is_about(row: PublishedRow, task: str) -> bool:
    """Whether a row belongs in a task's column: VTAB splits its data sets in its own way."""
    return row.protocol.startswith("vtab-") == task.startswith("vtab/")


def weights_of(row: PublishedRow) -> str:
    """The timm name of a row's weights, from the row or from another of the same paper with the same model and data."""
    return row.timm or _stated_elsewhere().get((row.source.arxiv, row.model, row.pretrain_data), "")


@cache
def _stated_elsewhere() -> dict[tuple[str | None, str, str], str]:
    found: dict[tuple[str | None, str, str], set[str]] = {}
    for row in published():
        if row.timm:
            found.setdefault((row.source.arxiv, row.model, row.pretrain_data), set()).add(row.timm)
    return {about: names.pop() for about, names in found.items() if len(names) == 1}


@cache
def _by_weights() -> dict[str, list[PublishedRow]]:
    found: dict[str, list[PublishedRow]] = {}
    for row in published():
        found.setdefault(weights_of(row), []).append(row)
    return found


def published_weights(record: Record) -> str:
    """The timm name of a record's weights; '' unless they are timm's own, without changed options but for pixels."""
    backbone = record.job.backbone
    trained = record.backbone is not None and record.backbone.weights == "pretrained"
    return (
        backbone.argument
        if backbone.name == "timm" and trained and is_usual(backbone, tuple(IMAGENET_PIXELS))
        else ""
    )


def rows_for(record: Record, dataset: str) -> Iterator[PublishedRow]:
    """The rows with a record's weights and data whose authors followed the same protocol step for step."""
    job, weights = record.job, published_weights(record)
    usual_preset = _PRESETS.get(job.protocol.name, job.preprocess) == job.preprocess
    if job.limit is not None or not weights or not usual_preset:
        return
    pixels = _stated_pixels(job)
    for row in _by_weights().get(weights, ()):
        if (
            pixels == pixels_of(row)
            and follows(row, job, dataset)
            and is_top1(row, dataset)
            and not has_other_settings(row, dataset)
            and dropout_of(row) in (None, _dropout(record))
        ):
            yield row


def _dropout(record: Record) -> float:
    """The dropout rate that a record was fine-tuned with."""
    return next(
        (float(trial.options.get("dropout", 0)) for trial in record.trials[::-1] if trial.chosen), 0.0
    )


def published_match(
    records: Sequence[Record], dataset: str, measured: Runs, spread: SeedSpread | None
) -> PublishedMatch | None:
    """The published value that a cell can be compared with; only conformant results at the same image size have one.

    `spread` is that over seeds, of all networks of the column.
    """
    row = next(matching_rows(records, dataset), None)
    return (
        None if row is None else match_with(row, dataset, measured, spread, seeded=is_seeded(records[0].job))
    )


def matching_rows(records: Sequence[Record], dataset: str) -> Iterator[PublishedRow]:
    """The rows whose value a cell can be compared with; several if a source prints one setting in several tables."""
    first = records[0]
    sizes = {record.backbone.size_px for record in records if record.backbone}
    if (
        not dataset
        or len(sizes) != 1
        or any(disagreements(record) or not record.conformance for record in records)
    ):
        return
    (size_px,) = sizes
    for row in rows_for(first, dataset):
        fits = is_about(row, first.job.task.name) and row.resolution_of(dataset) == size_px
        if dataset in row.results and fits:
            yield row


def disagreements(record: Record) -> list[Check]:
    """The items of conformance that keep a record from being compared: those that fail or are not known."""
    held = (*HELD_TO_THE_ROW, PIXELS) if _stated_pixels(record.job) == IMAGENET_PIXELS else HELD_TO_THE_ROW
    return [check for check in record.conformance if not check.ok and check.item not in held]


def _stated_pixels(job: Job) -> dict[str, list[float]]:
    """The mean and std that a job states for its backbone."""
    options = job.backbone.options
    return {name: list(value) for name in IMAGENET_PIXELS if (value := options.get(name)) is not None}


def match_with(
    row: PublishedRow, dataset: str, measured: Runs, spread: SeedSpread | None, *, seeded: bool
) -> PublishedMatch:
    """A published value and how a measured one, which can be compared with it, differs from it."""
    return _match(row, row.results[dataset], measured, spread, seeded=seeded)


def _match(
    row: PublishedRow, value: Value, measured: Runs, spread: SeedSpread | None, *, seeded: bool
) -> PublishedMatch:
    std = None if value.std is None else value.std / 100
    printed = Runs(value.value / 100, row.runs or 1, statistic_of(row.statistic))
    found = tolerance_of(measured, printed, spread, std, seeded=seeded)
    return PublishedMatch(
        printed.value, std, row.source.citation, row.is_weak, measured.value - printed.value,
        None if found.value is None else found.value + _rounding(row), found.basis, statistic_text(row),
        min(max(value.decimals, 1), 2),
    )  # fmt: skip


def statistic_text(row: PublishedRow) -> str:
    """What a row's values are of how many runs, such as `median of 3 runs`; '' if the source says neither."""
    if row.statistic:
        return row.statistic
    return f"{row.runs} runs" if row.runs and row.runs > 1 else ""


def _rounding(row: PublishedRow) -> float:
    """Half a unit of the last printed digit, as a fraction; means are often printed with more digits."""
    parts = {name: value for name, value in row.results.items() if name not in MEANS} or row.results
    decimals = max(value.decimals for value in parts.values())
    return 0.5 * 10.0 ** -max(decimals, 1) / 100
