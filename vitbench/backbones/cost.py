"""The compute cost of a backbone: published (quantity A), counted (B) and measured (C), kept apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from vitbench.backbones.build import build
from vitbench.backbones.catalog import entry_of
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.throughput import images_per_s
from vitbench.compute.core_days import CoreDays, core_days, training_flops
from vitbench.compute.environment import choose_device, describe, settle
from vitbench.compute.flops import forward_flops
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES
from vitbench.published import rows_of

MEASURED_S = 5.0
SIZES_PX = (224, 384)
# Images in one run of the ViT paper's VTAB protocol: tasks x steps x batch size (docs/protocols.md#compute-accounting)
VTAB_IMAGES = 19 * 2500 * 512


@dataclass(frozen=True)
class Published:
    """Quantity A: pre-training compute as printed in its source."""

    tpu_v3_core_days: float | None
    exaflops: float | None
    source: str


@dataclass(frozen=True)
class Counted:
    """Quantity B: FLOPs at one image size; one multiply-add counts as two."""

    size_px: int
    forward_flops: int
    vtab_core_days: CoreDays

    @property
    def gmacs(self) -> float:
        """Multiply-adds of a forward pass on one image, in 1e9; most papers print this."""
        return self.forward_flops / 2e9

    @property
    def training_flops(self) -> float:
        """FLOPs of a training step on one image."""
        return training_flops(self.forward_flops, 1)


@dataclass(frozen=True)
class Measured:
    """Quantity C: throughput of forward passes on this machine."""

    device: str
    dtype: str
    size_px: int
    images_per_s: float


@dataclass(frozen=True)
class BackboneCost:
    """All three quantities of one backbone."""

    name: str
    params: int
    published: tuple[Published, ...]
    counted: tuple[Counted, ...]
    measured: Measured | None

    def as_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        counted = [
            {**asdict(each), "gmacs": each.gmacs, "training_flops": each.training_flops}
            for each in self.counted
        ]
        return {**asdict(self), "counted": counted}


def backbone_cost(
    spec: str,
    options: dict[str, Any],
    device: str = "auto",
    dtype: str = "float32",
    seconds: float = MEASURED_S,
) -> BackboneCost:
    """Look up published costs, count FLOPs, and time forward passes for `seconds` (0: no timing).

    Raises:
        UsageError: there is no such backbone or device.
    """
    BACKBONES.get(spec)
    shape = build(spec, options, meta=True)
    sizes = dict.fromkeys((shape.input.size_px, *SIZES_PX))
    counted = tuple(found for size in sizes if (found := _counted(shape, size)) is not None)
    measured = None
    if seconds:
        chosen = choose_device(device)
        settle(None)
        speed = images_per_s(shape, chosen, dtype, seconds)
        measured = Measured(describe(chosen).device, dtype, shape.input.size_px, speed)
    return BackboneCost(spec, shape.params, _published(spec), counted, measured)


def _counted(shape: BuiltBackbone, size_px: int) -> Counted | None:
    try:
        with torch.device("meta"):
            flops = forward_flops(shape.at_resolution(size_px), size_px)
    except UsageError:  # fixed image size, or not a multiple of the patch size
        return None
    return None if flops is None else Counted(size_px, flops, core_days(training_flops(flops, VTAB_IMAGES)))


def _published(spec: str) -> tuple[Published, ...]:
    found = []
    full = BACKBONES.expanded(spec)
    entry = entry_of(full)
    if entry is not None and entry.tpu_v3_core_days is not None:
        found.append(Published(entry.tpu_v3_core_days, None, entry.compute_source or entry.source))
    for row in rows_of(full.removeprefix("timm:")):
        cost = row.compute
        if cost.tpu_v3_core_days is not None or cost.exaflops is not None:
            each = Published(cost.tpu_v3_core_days, cost.exaflops, cost.source or row.source.citation)
            if each not in found:
                found.append(each)
    return tuple(found)
