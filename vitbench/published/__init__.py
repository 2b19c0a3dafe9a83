"""Published results that ship with vitbench: each with its paper, protocol and resolution. They are shown, never mixed in.

A row of weak evidence (one third party's quotation) is marked.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("published.yaml")
NATURAL = ("caltech101", "cifar100", "dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "svhn")
SPECIALIZED = ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy")
STRUCTURED = (
    "clevr_count", "clevr_distance", "dmlab", "dsprites_location", "dsprites_orientation", "kitti_distance",
    "smallnorb_azimuth", "smallnorb_elevation",
)  # fmt: skip
GROUP_OF = {
    **dict.fromkeys(NATURAL, "natural"),
    **dict.fromkeys(SPECIALIZED, "specialized"),
    **dict.fromkeys(STRUCTURED, "structured"),
}
# A mean that a source states, and what it is of.
MEANS: dict[str, tuple[str, ...]] = {
    "vtab_natural": NATURAL,
    "vtab_specialized": SPECIALIZED,
    "vtab_structured": STRUCTURED,
    "vtab_mean": (*NATURAL, *SPECIALIZED, *STRUCTURED),
    "avg5": ("imagenet", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102"),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where a row is printed."""

    paper: str
    arxiv: str | None
    table: str | None
    authors: str = ""
    venue: str | None = None
    commit: str = ""
    license: str = ""

    @property
    def citation(self) -> str:
        """The source in a line."""
        place = f"arXiv {self.arxiv}" if self.arxiv else self.paper
        return f"{place}, {self.table}" if self.table else place


class Value(_Frozen):
    """Top-1 in percent, as printed; `derived` means: computed from the row's other values."""

    value: float = Field(ge=0, le=100)
    std: float | None = None
    min: float | None = None
    max: float | None = None
    wall_hours: float | None = None
    derived: bool = False


class PublishedCompute(_Frozen):
    """Quantity A as printed, and what else the source says of cost."""

    tpu_v3_core_days: float | None = None
    exaflops: float | None = None
    inference_gmacs: float | None = None
    a100_hours: float | None = None
    source: str = Field(default="", description="where it is printed, if not where the results are")


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
        """Whether one third party's quotation is all there is."""
        return self.verified == "secondary x1"

    def resolution_of(self, task: str) -> int | str | None:
        """The side that a task was evaluated at."""
        return self.resolution_overrides.get(task, self.resolution)


@cache
def published() -> tuple[PublishedRow, ...]:
    """All rows, in the file's order."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
    rows = loader(FILE.read_text(encoding="utf-8")).get_single_data()
    return tuple(PublishedRow.model_validate(row) for row in rows)


def unmet_means(row: PublishedRow) -> list[str]:
    """Means which a row states and its own values do not give, to the rounding of what is printed."""
    wrong = []
    for name, parts in MEANS.items():
        stated = row.results.get(name)
        if stated is None or stated.derived or not all(part in row.results for part in parts):
            continue
        mean = sum(row.results[part].value for part in parts) / len(parts)
        if abs(mean - stated.value) > 0.11:  # values and mean are printed to a tenth
            wrong.append(f"{row.id}: {name} is stated as {stated.value}, its values give {mean:.2f}")
    return wrong


def rows_of(timm_name: str) -> tuple[PublishedRow, ...]:
    """The rows that are about a timm checkpoint."""
    return tuple(row for row in published() if row.timm == timm_name)
