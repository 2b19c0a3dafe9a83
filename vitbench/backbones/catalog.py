"""The catalog: short names for citable backbones, with source, licence and pre-training compute."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vitbench.backbones.miniature_records import FAMILIES, LICENCE, PRETRAIN_DATA, pretrainings
from vitbench.core.format import quantity
from vitbench.core.registry import BACKBONES

TANH_GELU = {
    "own": "GELU by its tanh approximation, with which the weights were trained; timm's network has erf (`activation: timm`)",
    "timm": "GELU by erf, as timm builds it; the weights were trained with its tanh approximation",
}
FILE = Path(__file__).with_name("catalog.yaml")
# Endings of timm's tags for weights trained on ImageNet-1k labels
FINE_TUNED_ON_IMAGENET = ("in1k", "ft_in1k")
# Parts of tags of weights whose training is known to have used no task's labels (docs/protocols.md#model-names).
OTHER_LABELS = (
    "in21k",
    "in22k",
    "in12k",
    "jft",
    "lvd142m",
    "lvd1689m",
    "laion",
    "openai",
    "webli",
    "datacomp",
    "metaclip",
    "dfn",
    "mae",
    "dino",
)


class CatalogEntry(BaseModel):
    """A backbone with a short name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str
    spec: str
    family: str
    data: str
    source: str
    licence: str
    params_m: float | None = None
    tpu_v3_core_days: float | None = None  # as published
    pretrain_flops: float | None = None  # as counted here
    compute_source: str = ""
    trained_on: tuple[str, ...] = ()
    note: str = ""

    @property
    def summary(self) -> str:
        """The entry as one line of text."""
        compute = f"{self.tpu_v3_core_days:,.0f} TPU v3 core-days" if self.tpu_v3_core_days else ""
        if self.pretrain_flops:
            compute = f"{quantity(self.pretrain_flops, 'FLOPs')} of pre-training, counted"
        size = f"{self.params_m:g} M" if self.params_m else ""
        parts = (self.family, size, self.data, compute, self.source, self.licence, self.note)
        return " · ".join(filter(None, parts))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    defaults: dict[str, str]
    backbones: list[dict[str, object]]
    traps: dict[str, str]
    tanh_gelu: list[str]
    notes: dict[str, str]


@cache
def _read() -> _File:
    import yaml

    return _File.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


@cache
def catalog() -> tuple[CatalogEntry, ...]:
    """Return all entries, in file order."""
    file = _read()
    listed = tuple(CatalogEntry.model_validate({**file.defaults, **row}) for row in file.backbones)
    return (*listed, *_miniatures())


def _miniatures() -> tuple[CatalogEntry, ...]:
    """The networks that ship, with what their training script has written about them."""
    return tuple(
        CatalogEntry(
            alias=f"mini-{name}",
            spec=f"miniature:{name}",
            family=FAMILIES[made.family],
            data=PRETRAIN_DATA,
            source="reports/miniatures",
            licence=LICENCE,
            params_m=made.parameters / 1e6,
            pretrain_flops=made.pretrain_flops,
            compute_source="forward FLOPs counted, times three, times the images seen",
            note=made.summary,
        )
        for name, made in pretrainings().items()
    )


def traps() -> dict[str, str]:
    """Return backbone names that are easily misread, each with a note on the weights that it loads."""
    return dict(_read().traps)


def entry_of(spec: str) -> CatalogEntry | None:
    """Return the catalog entry of a full spec such as `timm:NAME.TAG`, or None."""
    return next((entry for entry in catalog() if entry.spec == spec), None)


def has_tanh_gelu(spec: str) -> bool:
    """Return whether weights with this full name were trained with GELU's tanh approximation, unlike timm's network."""
    return any(re.fullmatch(pattern, spec) for pattern in _read().tanh_gelu)


def notes_on(*specs: str, activation: Literal["own", "timm"] = "own") -> tuple[str, ...]:
    """Return what a reader must know of backbones with one of these names, such as an activation that differs from timm's."""
    gelu = [TANH_GELU[activation]] if any(map(has_tanh_gelu, specs)) else []
    found = [
        note for pattern, note in _read().notes.items() if any(re.fullmatch(pattern, spec) for spec in specs)
    ]
    misread = _read().traps
    return (*gelu, *found, *(misread[spec] for spec in specs if spec in misread))


def trained_on(tag: str) -> tuple[str, ...] | None:
    """Return the data sets whose labels were used to train weights with this timm tag; None if the tag does not show it."""
    stem = tag.removesuffix("_384").removesuffix("_475").removesuffix("_e3")
    if stem.endswith(FINE_TUNED_ON_IMAGENET):
        return ("imagenet2012",)
    return () if any(part in tag for part in OTHER_LABELS) else None


for _entry in catalog():
    BACKBONES.alias(_entry.alias, _entry.spec)
