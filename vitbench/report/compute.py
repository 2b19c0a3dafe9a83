"""Compute of a leaderboard's row: published pre-training, counted FLOPs and measured time, and their columns on the page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.compute.core_days import CORE_DAY_FLOPS, UTILISATION, UTILISATION_BAND
from vitbench.core.format import duration, energy, quantity
from vitbench.core.record import Cost, Record
from vitbench.published import PublishedRow, published
from vitbench.report.published_match import published_weights, weights_of


@dataclass(frozen=True)
class Compute:
    """Quantities that are never mixed: A published pre-training, or FLOPs of it as counted; B counted FLOPs, C measured here.

    `core_days` are as printed in `core_days_source`, or converted from printed exaFLOPs, with the range in `estimated`.
    `seconds` are device-seconds of all jobs, each with the features that it needs; `at_least`: of some, not all is known.
    `trained_parameters` are the mean over jobs, heads included, where only a part of the backbone was trained.
    """

    core_days: float | None = None
    core_days_source: str = ""
    estimated: tuple[float, float] | None = None
    pretrain_flops: float | None = None
    flops_per_image: int | None = None
    size_px: int | None = None
    seconds: float | None = None
    at_least: bool = False
    joules: float | None = None
    device: str = ""
    trained_parameters: float | None = None


@dataclass(frozen=True)
class ComputeColumn:
    """A column of the page: its key in addresses, heading, what it sorts by, and texts for a row where that is known."""

    key: str
    title: str
    note: str
    value: Callable[[Compute], float | None]
    text: Callable[[Compute], str]
    detail: Callable[[Compute], str] = lambda _: ""  # in small print after the text
    tooltip: Callable[[Compute], str] = lambda _: ""
    is_spoken: bool = False  # whether screen readers get the tooltip, too


def _core_days_text(row: Compute) -> str:
    return ("≈ " if row.estimated else "") + quantity(row.core_days or 0)


def _core_days_range(row: Compute) -> str:
    return f"{quantity(row.estimated[0])}–{quantity(row.estimated[1])} estimated" if row.estimated else ""


_UNKNOWN = "; without features whose extraction was not measured"


COMPUTE_COLUMNS = (
    ComputeColumn(
        "core_days", "Core-days", "TPUv3, published", lambda row: row.core_days,
        _core_days_text, _core_days_range, lambda row: row.core_days_source,
    ),
    ComputeColumn(
        "pretrain_flops", "Pre-training", "FLOPs, counted", lambda row: row.pretrain_flops,
        lambda row: quantity(row.pretrain_flops or 0),
    ),
    ComputeColumn(
        "flops", "FLOPs/image", "counted", lambda row: row.flops_per_image,
        lambda row: quantity(row.flops_per_image or 0),
        lambda row: f"{row.size_px} px" if row.flops_per_image and row.size_px else "",
    ),
    ComputeColumn(
        "trained", "Trained", "parameters", lambda row: row.trained_parameters,
        lambda row: quantity(row.trained_parameters or 0),
        tooltip=lambda _: "parameters that were trained, heads included; mean over tasks and seeds",
    ),
    ComputeColumn(
        "time", "Time", "measured here", lambda row: row.seconds,
        lambda row: ("≥ " if row.at_least else "") + duration(row.seconds or 0),
        lambda row: "" if row.joules is None else energy(row.joules),
        lambda row: f"on {row.device}{_UNKNOWN if row.at_least else ''}", is_spoken=True,
    ),
)  # fmt: skip


def measured_compute(records: Sequence[Record]) -> Compute:
    """A row's compute: A is looked up by the backbone's weights, B and C come from its records."""
    costs = [record.cost for record in records if record.cost]
    facts = next((record.backbone for record in records if record.backbone), None)
    joules = [cost.energy_joules for cost in costs]
    pretraining = _pretraining(records)
    return Compute(
        pretraining.core_days,
        pretraining.core_days_source,
        pretraining.estimated,
        pretrain_flops=facts.pretrain_flops if facts else None,
        flops_per_image=next((cost.flops_per_image for cost in costs), None),
        size_px=facts.size_px if facts else None,
        seconds=math.fsum(cost.least_device_seconds for cost in costs) or None,
        at_least=not all(cost.is_known for cost in costs),
        device=", ".join(sorted({name for cost in costs for name in _devices(cost)})),
        trained_parameters=_trained(records),
        joules=math.fsum(j for j in joules if j is not None) if joules and None not in joules else None,
    )


def _trained(records: Sequence[Record]) -> float | None:
    """The mean number of parameters that were trained; None unless it is known of all, and less than the backbone has."""
    known = [
        (record.cost.trained_parameters, record.backbone.params)
        for record in records
        if record.cost and record.cost.trained_parameters is not None and record.backbone
    ]
    if not known or any(trained >= params for trained, params in known):
        return None
    return statistics.fmean(trained for trained, _ in known)


def _devices(cost: Cost) -> list[str]:
    """The devices that worked for a job, those that extracted its features included."""
    return [cost.device, *(each.device for each in cost.extractions or () if each.device)]


def run_device_seconds(records: Sequence[Record]) -> float:
    """The device-seconds of these jobs together: features that several of them read count once, unlike in their own costs."""
    costs = [record.cost for record in records if record.cost]
    own = math.fsum(cost.work_s * cost.devices for cost in costs)
    listed = [each for cost in costs for each in cost.extractions or ()]
    here = {each.key for each in listed if not each.shared}
    elsewhere = {each.key: (each.seconds or 0.0) * each.devices for each in listed if each.key not in here}
    return own + math.fsum(elsewhere.values())


def _pretraining(records: Sequence[Record]) -> Compute:
    """Core-days as the backbone states them, else as published for its weights."""
    backbone = records[0].job.backbone
    facts = next((record.backbone for record in records if record.backbone), None)
    weights = next((name for record in records if (name := published_weights(record))), "")
    known = _published_pretraining(weights) if weights else Compute()
    stated = facts.pretrain_tpu_v3_core_days if facts and not backbone.options.get("checkpoint") else None
    if stated is not None and known.core_days != stated:
        return Compute(stated, f"as stated by {backbone.spec}")
    return known


@cache
def _published_pretraining(timm_name: str) -> Compute:
    """Published pre-training compute of these weights; printed core-days take precedence over converted ones."""
    rows = [published_compute(row) for row in published() if weights_of(row) == timm_name]
    known = [row for row in rows if row.core_days is not None]
    return min(known, key=lambda row: row.estimated is not None, default=Compute())


def published_compute(row: PublishedRow) -> Compute:
    """TPUv3-core-days as printed, or converted from exaFLOPs, with the range (docs/protocols.md#compute-accounting)."""
    size_px = row.resolution if isinstance(row.resolution, int) else None
    note = f" ({row.note})" if "core-days" in row.note.lower() else ""
    cost, source = row.compute, (row.compute.source or row.source.citation) + note
    flops = None if cost.inference_gmacs is None else round(cost.inference_gmacs * 2e9)
    if cost.tpu_v3_core_days is not None:
        return Compute(cost.tpu_v3_core_days, source, flops_per_image=flops, size_px=size_px)
    if cost.exaflops is not None:
        at_peak = cost.exaflops * 1e18 / CORE_DAY_FLOPS
        low, high = UTILISATION_BAND
        origin = f"from {cost.exaflops:g} exaFLOP in {source}"
        return Compute(at_peak / UTILISATION, origin, (at_peak / high, at_peak / low), flops, size_px)
    return Compute(flops_per_image=flops, size_px=size_px)
