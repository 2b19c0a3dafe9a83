"""Published results that ship with vitbench, each with its paper, protocol and image size; and the names that papers use.

They are shown beside measured results and never mixed with them. Rows from a single secondary source are marked.
"""

from __future__ import annotations

import math
import re
import statistics
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("published.yaml")
VTAB_GROUPS: dict[str, tuple[str, ...]] = {
    "natural": ("caltech101", "cifar100", "dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "svhn"),
    "specialized": ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    "structured": (
        "clevr_count", "clevr_distance", "dmlab", "dsprites_location", "dsprites_orientation", "kitti_distance",
        "smallnorb_azimuth", "smallnorb_elevation",
    ),
}  # fmt: skip
VTAB = tuple(dataset for datasets in VTAB_GROUPS.values() for dataset in datasets)
GROUP_OF = {dataset: group for group, datasets in VTAB_GROUPS.items() for dataset in datasets}
_VTAB_TASKS = {"flowers102": "oxford_flowers102", "pets": "oxford_iiit_pet"}  # where our names differ
VIT_PAPER = ("imagenet", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")  # Fig. 5
# Means that sources state, and what they are taken over.
MEANS: dict[str, tuple[str, ...]] = {
    **{f"vtab_{group}": datasets for group, datasets in VTAB_GROUPS.items()},
    "vtab_mean": VTAB,
    "avg5": VIT_PAPER,
}
TEST_SETS = ("v2", "a", "r", "sketch")  # of ImageNet, that rows have results on; v2 is matched-frequency
# The kind of network by its name, in a paper's spelling or timm's; the first that matches.
_FAMILIES = {
    "Hybrid": r"R\d*(x\d)?\+|^vit_\w+_r\d*_s",
    "ViT": r"ViT|^vit_",
    "BiT": r"BiT|_bit\.|R(esNet)?\d+x\d",  # ResNets with a width factor are BiT's
    "Mixer": r"[Mm]ixer",
    "EfficientNet": r"[Ee]fficient[Nn]et",
    "CNN": r"Res|^R\d",
}


def dataset_of(task: str, metric: str = "") -> str:
    """The name that published rows use for a registered task and metric; '' if none of them covers it."""
    top1 = metric in ("", "top1")
    if task.startswith("vtab/"):
        name = task.removeprefix("vtab/")
        return _VTAB_TASKS.get(name, name) if top1 else ""
    if metric == "real" or (task == "imagenet" and metric in TEST_SETS):
        return f"{task}_{metric}"
    return task if task in VIT_PAPER and top1 else ""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """The publication that prints a row."""

    paper: str
    arxiv: str | None
    table: str | None
    authors: str = ""
    venue: str | None = None
    commit: str = ""
    license: str = ""

    @property
    def citation(self) -> str:
        """The source on one line."""
        paper = f"arXiv {self.arxiv}" if self.arxiv else self.paper
        return f"{paper}, {self.table}" if self.table else paper


class Value(_Frozen):
    """Top-1 in percent, as printed; `derived` means: computed from the row's other values."""

    value: float = Field(ge=0, le=100)
    std: float | None = None
    min: float | None = None
    max: float | None = None
    wall_hours: float | None = None
    derived: bool = False

    @property
    def decimals(self) -> int:
        """Digits after the point; trailing zeros are not stored, so other values of the same table may have more."""
        return len(f"{self.value:.2f}".rstrip("0").partition(".")[2])


class PublishedCompute(_Frozen):
    """Pre-training compute as printed, and other costs that the source states."""

    tpu_v3_core_days: float | None = None
    exaflops: float | None = None
    inference_gmacs: float | None = None
    a100_hours: float | None = None
    source: str = Field(default="", description="where it is printed, if not beside the results")


class PublishedRow(_Frozen):
    """One model's results under one protocol in one source."""

    id: str
    model: str
    params_m: float | None = None
    pretrain_data: str
    pretrain_epochs: float | None = None
    protocol: str
    resolution: int | str | None
    resolution_overrides: dict[str, int] = {}
    runs: int | None = None
    statistic: str = ""
    method: str = ""
    crop_pct: float | None = None
    interpolation: str = ""
    timm: str | None = None
    source: Source
    results: dict[str, Value]
    compute: PublishedCompute
    verified: str
    note: str = ""
    duplicate_of: str | None = None

    @property
    def is_weak(self) -> bool:
        """Whether it comes from a single secondary source."""
        return self.verified == "secondary x1"

    @property
    def family(self) -> str:
        """The kind of network, by the model's name."""
        return next((kind for kind, pattern in _FAMILIES.items() if re.search(pattern, self.model)), "other")

    def resolution_of(self, dataset: str) -> int | str | None:
        """The image size that a data set was evaluated at."""
        return self.resolution_overrides.get(dataset, self.resolution)


@cache
def published() -> tuple[PublishedRow, ...]:
    """All rows, in the file's order."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if libyaml is available
    rows = loader(FILE.read_text(encoding="utf-8")).get_single_data()
    return tuple(PublishedRow.model_validate(row) for row in rows)


def unmet_means(row: PublishedRow) -> list[str]:
    """Means that differ from the mean of the row's own values by more than the rounding of both can explain.

    A derived mean may have been computed before its parts were rounded.
    """
    wrong = []
    for name, parts in MEANS.items():
        stated = row.results.get(name)
        if stated is None or not all(part in row.results for part in parts):
            continue
        values = [row.results[part] for part in parts]
        mean = statistics.fmean(value.value for value in values)
        digits = max(1, *(value.decimals for value in values)), max(1, stated.decimals)
        rounding = 0.5 * math.fsum(10.0**-decimals for decimals in digits)
        if abs(mean - stated.value) > rounding + 1e-9:
            wrong.append(f"{row.id}: {name} is stated as {stated.value}, its values give {mean:.3f}")
    return wrong


def rows_of(timm_name: str) -> tuple[PublishedRow, ...]:
    """The rows about a timm checkpoint."""
    return tuple(row for row in published() if row.timm == timm_name)
