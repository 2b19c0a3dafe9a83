"""Match a record to published rows: those with the same weights, data, protocol, recipe and image size.

Each match states its tolerance: repeated runs differ by their seeds, and printed values are rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.core.job import Component, Job, shots_of
from vitbench.core.record import Check, Record
from vitbench.protocols.recipes import tuning_of
from vitbench.published import MEANS, PublishedRow, Value, published
from vitbench.report.seeded import is_seeded
from vitbench.report.statistics import LEVEL
from vitbench.report.tolerance import WIDE, Basis, Runs, SeedSpread, Verdict, statistic_of, tolerance_of

# Published protocols with the same method and amount of data: their rows may share a board with ours.
_SAME_METHOD = {
    ("finetune", "full"): ("finetune-full", "vtab-full-finetune"),
    ("finetune", "1k"): ("vtab-1k-finetune",),
    ("logistic_probe", "full"): ("linear-full",),
    ("ridge_probe", "full"): ("linear-full",),
    ("linear_probe", "full"): ("linear-full",),
    ("logistic_probe", "1k"): ("vtab-1k-linear",),
    ("linear_probe", "1k"): ("vtab-1k-linear",),
    ("ridge_probe", "1k"): ("vtab-1k-linear",),
    ("knn", "full"): ("knn-full",),
    ("own_head", "full"): ("imagenet-eval",),
}
# Rows whose authors followed one of our protocols step for step; by recipe, if the protocol has one.
_SAME_STEPS = {
    "vit": ("vit2021-",),
    "vit-table2": ("vit2021-",),
    "vit-released": ("vit-readme-",),
    "bit": ("bit2020-",),
    "bit-released": ("bit-readme-",),
    "vtab-light": ("vtab-lb-",),
    "logistic_probe": ("dinov2-t8-",),
    "dinov2": ("dinov2-card-",),
    "knn": ("dinov2-card-",),
    "ridge_probe": ("scalingvit2022-",),
    "own_head": ("timm-",),
}
# On ImageNet ViT's Table 2 is averaged and at 512 px, its Tables 5 and 6 are neither (docs/protocols.md#published-values).
_ON_IMAGENET = {"vit": ("vit2021-t5-", "vit2021-t6-"), "vit-table2": ("vit2021-t2-",)}
# Rows that were made with other settings than the rest of their table, according to their own notes.
_OTHER_SETTINGS = {("bit-readme-", "cifar10"), ("bit-readme-", "cifar100")}  # batch 128 at 0.001
# Ends the ids of vit_jax's README, which has each network with two rates.
_DROPOUT = re.compile(r"-do(\d\.\d)$")
# In dinov2-t8- these are mean per-class accuracies, not top-1.
_PER_CLASS = ("oxford_iiit_pet", "oxford_flowers102", "caltech101")
# Options of protocols and of timm backbones in those rows; any other option must be at its default.
_USUAL: dict[str, dict[str, object]] = {
    "knn": {"k": 20},  # of the results on DINOv2's model card
    "logistic_probe": {"c": "val", "values": 45, "standardise": False},
    "ridge_probe": {"l2": "default"},
    "timm": {
        "pretrained": True,
        "position_resize": "own",
        "activation": "own",
        "pooling": "own",
        "last_layers": 1,
    },
}
# The preset of those rows, where other suites of ours name another.
_PRESETS = {
    "knn": "dinov2_knn",
    "linear_probe": "dinov2_knn",
    "logistic_probe": "clip",
    "own_head": "timm_eval",
}
# Items of conformance that say less than `follows`, which holds a job's protocol to the row instead of to its reference.
HELD_TO_THE_ROW = ("protocol as its reference has it",)
# Checked elsewhere, or without effect on scores.
_FREE = ("label", "size_px", "init_seed", "replicas", "recipe")


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


def methods_of(job: Job) -> tuple[str, ...]:
    """The published protocols whose rows may share a board with a job."""
    name, shots = job.protocol.name, shots_of(job.budget)
    if shots is not None:
        spelling = {"finetune": "finetune-{}-per-class", "ridge_probe": "fewshot-linear-{}"}.get(name, "")
        return (spelling.format(shots),) if spelling else ()
    if name == "finetune" and (tuning := tuning_of(job.protocol.options)) != "all":
        full, small = (
            ("linear-full", "vtab-1k-linear") if tuning == "head" else ("full-data-peft", "vtab-1k-peft")
        )
        return (small,) if job.budget == "1k" else (full,)
    return _SAME_METHOD.get((name, job.budget), ())


def rows_on_board(job: Job, prefixes: Iterable[str]) -> list[PublishedRow]:
    """Published rows of a job's method whose ids begin with one of the prefixes."""
    if job.limit is not None:
        return []
    methods, wanted = methods_of(job), tuple(prefixes)
    return [
        row
        for row in published()
        if row.protocol in methods and row.id.startswith(wanted or "\0") and _tunes_as(row, job)
    ]


def _tunes_as(row: PublishedRow, job: Job) -> bool:
    """Whether a row of parameter-efficient tuning has a job's method; of others that is clear from `protocol`."""
    return not row.protocol.endswith("-peft") or row.method == tuning_of(job.protocol.options)


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
    """The timm name of a record's weights; '' unless they are timm's own, without changed options."""
    backbone = record.job.backbone
    trained = record.backbone is not None and record.backbone.weights == "pretrained"
    return backbone.argument if backbone.name == "timm" and trained and _is_usual(backbone) else ""


def _is_usual(component: Component, checked: Sequence[str] = ()) -> bool:
    """Whether every option has the value of published rows, but for those that are checked elsewhere."""
    usual = _USUAL.get(component.name, {})
    options = {name: value for name, value in component.options.items() if name not in (*_FREE, *checked)}
    return all(value == usual.get(name) for name, value in options.items())


def rows_for(record: Record, dataset: str) -> Iterator[PublishedRow]:
    """The rows with a record's weights and data whose authors followed the same protocol step for step."""
    job, weights = record.job, published_weights(record)
    usual_preset = _PRESETS.get(job.protocol.name, job.preprocess) == job.preprocess
    if job.limit is not None or not weights or not usual_preset:
        return
    for row in _by_weights().get(weights, ()):
        if (
            follows(row, job, dataset)
            and is_top1(row, dataset)
            and not has_other_settings(row, dataset)
            and dropout_of(row) in (None, _dropout(record))
        ):
            yield row


def follows(row: PublishedRow, job: Job, dataset: str) -> bool:
    """Whether a row's authors followed a job's protocol and recipe step for step, on as much data."""
    recipe = str(job.protocol.options.get("recipe", "")) or job.protocol.name
    prefixes: tuple[str, ...] = _SAME_STEPS.get(recipe, ())
    if dataset.startswith("imagenet"):
        prefixes = _ON_IMAGENET.get(recipe, prefixes)
    usual = _is_usual(job.protocol, () if dropout_of(row) is None else ("dropout",))
    return usual and row.protocol in methods_of(job) and row.id.startswith(prefixes or "\0")


def has_other_settings(row: PublishedRow, dataset: str) -> bool:
    """Whether a row says that this value was made with other settings than the rest of its table."""
    listed = any(row.id.startswith(prefix) and dataset == other for prefix, other in _OTHER_SETTINGS)
    return listed and not row.protocol.startswith("vtab-")


def dropout_of(row: PublishedRow) -> float | None:
    """The dropout rate of fine-tuning, where a source prints results with several; else that of the recipe."""
    found = _DROPOUT.search(row.id)
    return float(found.group(1)) if found else None


def _dropout(record: Record) -> float:
    """The dropout rate that a record was fine-tuned with."""
    return next(
        (float(trial.options.get("dropout", 0)) for trial in record.trials[::-1] if trial.chosen), 0.0
    )


def is_top1(row: PublishedRow, dataset: str) -> bool:
    """Whether a row reports top-1 accuracy for a data set, as we do."""
    return not (row.id.startswith("dinov2-t8-") and dataset in _PER_CLASS)


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
    return [check for check in record.conformance if not check.ok and check.item not in HELD_TO_THE_ROW]


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
