"""Published values that a measured one may be held against: the same weights, data, protocol, recipe and side, or none.

How far apart the two may be is stated with each: runs of the same thing differ by their seeds, and what is printed is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.published import PublishedRow, Value, published
from vitbench.records import Job, Record, shots_of

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
    "vit": "vit2021-",
    "vit-table2": "vit2021-",
    "vit-released": "vit-readme-",
    "bit": "bit2020-",
    "bit-released": "bit-readme-",
    "vtab-light": "vtab-lb-",
    "logistic_probe": "dinov2-t8-",
    "knn": "dinov2-card-",
    "ridge_probe": "scalingvit2022-",
}
DINO_NEIGHBOURS = 20  # of the kNN numbers on DINOv2's model card


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


def rows_for(job: Job) -> Iterator[PublishedRow]:
    """The rows about a job's weights whose authors did what it does, step for step."""
    methods, start = methods_of(job), _SAME_STEPS.get(_recipe(job), "\0")
    if job.limit is not None or not methods or job.backbone.name != "timm":
        return
    for row in published():
        if row.protocol in methods and row.id.startswith(start) and weights_of(row) == job.backbone.argument:
            yield row


def _recipe(job: Job) -> str:
    """The recipe of a fine-tuning as it is named, the protocol of a probe; '' where the suite has changed something."""
    options = job.protocol.options
    if job.protocol.name == "finetune":
        changed = [n for n, v in options.items() if v is not None and n not in ("recipe", "replicas")]
        return "" if changed else str(options.get("recipe", ""))
    if job.protocol.name == "knn" and options.get("k") != DINO_NEIGHBOURS:
        return ""
    return job.protocol.name


def reference(
    records: Sequence[Record], dataset: str, measured: float, spread: float | None
) -> Reference | None:
    """The published value for one cell, if there is one it may be held against: conformant, and at the same side."""
    first = records[0]
    sides = {record.backbone.size_px for record in records if record.backbone}
    if not dataset or len(sides) != 1 or not all(record.conformant for record in records):
        return None
    (size_px,) = sides
    for row in rows_for(first.job):
        value = row.results.get(dataset)
        if value is not None and is_about(row, first.job.task.name) and row.resolution_of(dataset) == size_px:
            n_test = first.data.n_test if first.data else 1
            return _held(row, value, measured, (spread, len(records)), n_test)
    return None


def _held(
    row: PublishedRow, value: Value, measured: float, seeds: tuple[float | None, int], n_test: int
) -> Reference:
    spread, count = seeds
    printed, std = value.value / 100, None if value.std is None else value.std / 100
    rounding = (0.05 if round(value.value, 1) == value.value else 0.005) / 100
    theirs, runs = std if std is not None else spread, row.runs or 1
    ours = spread if spread is not None else std
    if ours is not None and theirs is not None:
        within = seed_tolerance((ours, count), (theirs, runs))
    else:
        within = size_tolerance(measured, n_test)
    return Reference(
        printed, std, row.source.citation, row.is_weak, measured - printed, within + rounding, ours is not None
    )  # fmt: skip


def seed_tolerance(one: tuple[float, int], two: tuple[float, int]) -> float:
    """How far means of two sets of runs, each (deviation, runs), may lie apart by their seeds: Welch's 95 % interval."""
    from scipy.special import stdtrit

    parts = [(deviation**2 / runs, max(runs - 1, 1)) for deviation, runs in (one, two)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * float(variance**0.5)


def size_tolerance(share: float, n_test: int) -> float:
    """Where no spread over seeds is known: how far two networks that err independently may lie apart on n images."""
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2)) * float((2 * share * (1 - share) / n_test) ** 0.5)
