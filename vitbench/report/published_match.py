"""Published values that a measured one may be held against: the same weights, data, protocol, recipe and side, or none.

How far apart the two may be is stated with each: runs of the same thing differ by their seeds, and what is printed is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.core.job import Component, Job, shots_of
from vitbench.core.record import Record
from vitbench.published import MEANS, PublishedRow, Value, published

LEVEL = 0.95
_VTAB_NAMES = {"flowers102": "oxford_flowers102", "pets": "oxford_iiit_pet"}
# The published protocols that are the same method on the same amount of data, so that their rows may stand on the same board.
_SAME_METHOD = {
    ("finetune", "full"): ("finetune-full", "vtab-full-finetune"),
    ("finetune", "1k"): ("vtab-1k-finetune",),
    ("logistic_probe", "full"): ("linear-full",),
    ("ridge_probe", "full"): ("linear-full",),
    ("logistic_probe", "1k"): ("vtab-1k-linear",),
    ("ridge_probe", "1k"): ("vtab-1k-linear",),
    ("knn", "full"): ("knn-full",),
}
# The rows whose authors did what a protocol of ours does step for step; by the recipe, where there is one.
_SAME_STEPS = {
    "vit": ("vit2021-",),
    "vit-table2": ("vit2021-",),
    "vit-released": ("vit-readme-",),
    "bit": ("bit2020-",),
    "bit-released": ("bit-readme-",),
    "vtab-light": ("vtab-lb-",),
    "logistic_probe": ("dinov2-t8-",),
    "knn": ("dinov2-card-",),
    "ridge_probe": ("scalingvit2022-",),
}
# On ImageNet the ViT paper's Table 2 is averaged and at 512 px, its Tables 5 and 6 are neither (facts/published.md, 6).
_ON_IMAGENET = {"vit": ("vit2021-t5-", "vit2021-t6-"), "vit-table2": ("vit2021-t2-",)}
# Where a row was made in another way than its fellows, by its own note.
_OTHERWISE = {("bit-readme-", "cifar10"), ("bit-readme-", "cifar100")}  # batch 128 at 0.001
_PER_CLASS = (
    "oxford_iiit_pet",
    "oxford_flowers102",
    "caltech101",
)  # of dinov2-t8-: mean per-class accuracy, not top-1
# Options of protocols and of timm's backbones as those rows have them; what is not named here must be left alone.
_USUAL: dict[str, dict[str, object]] = {
    "knn": {"k": 20},  # of the numbers on DINOv2's model card
    "logistic_probe": {"c": "val", "values": 45},
    "ridge_probe": {"l2": "default"},
    "timm": {"pretrained": True, "position_resize": "aligned", "pooling": "own", "last_layers": 1},
}
_FREE = ("label", "size_px", "init_seed", "replicas", "recipe")  # compared elsewhere, or no matter


@dataclass(frozen=True)
class Reference:
    """A published value beside a measured one, all in fractions; `by_seeds`: the tolerance is known from other seeds."""

    value: float
    std: float | None
    source: str
    weak: bool
    difference: float
    tolerance: float
    by_seeds: bool

    @property
    def held(self) -> bool:
        """Whether the two agree within the tolerance."""
        return abs(self.difference) <= self.tolerance


def dataset_of(task: str, metric: str = "") -> str:
    """What published rows call a registered task's data and metric; '' for what none of them is about."""
    if task.startswith("vtab/"):
        name = task.removeprefix("vtab/")
        return "" if metric not in ("", "top1") else _VTAB_NAMES.get(name, name)
    if metric == "real":
        return f"{task}_real"
    known = ("imagenet", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")
    return task if task in known and metric in ("", "top1") else ""


def methods_of(job: Job) -> tuple[str, ...]:
    """The published protocols whose rows may stand on the board of a job."""
    name, shots = job.protocol.name, shots_of(job.budget)
    if shots is not None:
        spelled = {"finetune": "finetune-{}-per-class", "ridge_probe": "fewshot-linear-{}"}.get(name, "")
        return (spelled.format(shots),) if spelled else ()
    return _SAME_METHOD.get((name, job.budget), ())


def rows_on_board(job: Job, starts: Iterable[str]) -> list[PublishedRow]:
    """Published rows with these starts of their names which are of a job's method."""
    if job.limit is not None:
        return []
    methods, wanted = methods_of(job), tuple(starts)
    return [row for row in published() if row.protocol in methods and row.id.startswith(wanted or "\0")]


def is_about(row: PublishedRow, task: str) -> bool:
    """Whether a row's values may stand in a task's column: VTAB's splits are not those of the data sets elsewhere."""
    return row.protocol.startswith("vtab-") == task.startswith("vtab/")


def weights_of(row: PublishedRow) -> str:
    """The timm name of a row's weights, stated or by another row of the same paper on the same model and data."""
    return row.timm or _stated_elsewhere().get((row.source.arxiv, row.model, row.pretrain_data), "")


@cache
def _stated_elsewhere() -> dict[tuple[str | None, str, str], str]:
    found: dict[tuple[str | None, str, str], set[str]] = {}
    for row in published():
        if row.timm:
            found.setdefault((row.source.arxiv, row.model, row.pretrain_data), set()).add(row.timm)
    return {about: names.pop() for about, names in found.items() if len(names) == 1}


def published_weights(record: Record) -> str:
    """The timm name of the weights that a record is about, if they are those that timm publishes, used as they come."""
    backbone = record.job.backbone
    trained = record.backbone is not None and record.backbone.weights == "pretrained"
    return backbone.argument if backbone.name == "timm" and trained and _is_usual(backbone) else ""


def _is_usual(component: Component) -> bool:
    """Whether every option is as published rows have it."""
    usual = _USUAL.get(component.name, {})
    options = {name: value for name, value in component.options.items() if name not in _FREE}
    return all(value == usual.get(name) for name, value in options.items())


def rows_for(record: Record, dataset: str) -> Iterator[PublishedRow]:
    """The rows about a record's weights and data whose authors did what it does, step for step."""
    job, weights = record.job, published_weights(record)
    recipe = str(job.protocol.options.get("recipe", "")) or job.protocol.name
    starts: tuple[str, ...] = _SAME_STEPS.get(recipe, ())
    if dataset.startswith("imagenet"):
        starts = _ON_IMAGENET.get(recipe, starts)
    if job.limit is not None or not weights or not _is_usual(job.protocol):
        return
    for row in published():
        same = (
            row.protocol in methods_of(job)
            and row.id.startswith(starts or "\0")
            and weights_of(row) == weights
        )
        if same and is_top1(row, dataset) and not any(
            row.id.startswith(start) and dataset == other for start, other in _OTHERWISE
        ):  # fmt: skip
            yield row


def is_top1(row: PublishedRow, dataset: str) -> bool:
    """Whether a row's value for a data set is top-1 accuracy, as ours is."""
    return not (row.id.startswith("dinov2-t8-") and dataset in _PER_CLASS)


def reference(
    records: Sequence[Record], dataset: str, measured: float, spread: float | None, n_test: int
) -> Reference | None:
    """The published value for one cell, if there is one it may be held against: conformant, and at the same side."""
    first = records[0]
    sides = {record.backbone.size_px for record in records if record.backbone}
    if not dataset or len(sides) != 1 or not all(record.conformant for record in records):
        return None
    (size_px,) = sides
    for row in rows_for(first, dataset):
        value = row.results.get(dataset)
        if value is not None and is_about(row, first.job.task.name) and row.resolution_of(dataset) == size_px:
            return _held(row, value, measured, (spread, len(records)), n_test)
    return None


def _held(
    row: PublishedRow, value: Value, measured: float, seeds: tuple[float | None, int], n_test: int
) -> Reference:
    spread, count = seeds
    printed, std = value.value / 100, None if value.std is None else value.std / 100
    # Trailing zeros are not stored: values, apart from means, are printed with as many decimals as the longest of them.
    values = [one.value for name, one in row.results.items() if name not in MEANS]
    decimals = max(len(f"{one:.2f}".rstrip("0").partition(".")[2]) for one in values)
    rounding = 0.5 * 10.0 ** -max(decimals, 1) / 100
    runs = row.runs or 1
    by_seeds = bool(spread) or bool(std and runs > 1)
    if by_seeds:
        within = seed_tolerance((spread, count), (std if runs > 1 else None, runs))
    else:
        within = size_tolerance(measured, n_test)
    return Reference(
        printed, std, row.source.citation, row.is_weak, measured - printed, within + rounding, by_seeds
    )


Runs = tuple[float | None, int]  # standard deviation, if it is known, and how many


def seed_tolerance(one: Runs, two: Runs) -> float:
    """How far the means of two sets of runs may lie apart by their seeds: the 95 % interval of Welch's test.

    Of a set whose deviation is not known the other's is taken: then it is that of Student's, with the other's freedom.
    """
    from scipy.special import stdtrit

    known = [(deviation, runs) for deviation, runs in (one, two) if deviation is not None and runs > 1]
    if len(known) == 1:
        deviation, runs = known[0]
        variance, freedom = deviation**2 * (1 / one[1] + 1 / two[1]), float(runs - 1)
    else:
        parts = [(deviation**2 / runs, runs - 1) for deviation, runs in known]
        variance = sum(part for part, _ in parts)
        freedom = variance**2 / sum(part**2 / free for part, free in parts) if variance else 1.0
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * float(variance**0.5)


def size_tolerance(share: float, n_test: int) -> float:
    """Where no spread over seeds is known: how far two networks that err independently may lie apart on n images."""
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2)) * float((2 * share * (1 - share) / n_test) ** 0.5)
