"""The cost of a job that has ended: its own phases on all its devices, and the features it has read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from vitbench.api import Adapted
from vitbench.compute.environment import describe
from vitbench.compute.meter import Meter
from vitbench.core.record import OUTSIDE, Cost


def cost_of(meter: Meter, adapted: Adapted, device: str, flops_per_image: int | None) -> Cost:
    """The cost of the job that a meter has measured; every rank of a distributed job must call this.

    Seconds are those of this rank, which waits for the others; energy and core-seconds are summed over ranks, and the peak is
    the highest.
    """
    extractions = tuple(meter.extractions.values())
    own = {name: span for name, span in meter.phases.items() if name not in (*OUTSIDE, "features")}
    ranks = gathered([
        meter.peak_memory_bytes(),
        _total([span.joules for span in own.values()]),
        _total([span.core_seconds for span in own.values()]),
    ])  # fmt: skip
    peaks, joules, core_seconds = zip(*ranks, strict=True)
    seconds = {name: span.seconds for name, span in own.items()}
    if extractions and (features := _total([each.seconds for each in extractions])) is not None:
        seconds["features"] = features
    on_gpu = device.startswith("cuda")
    return Cost(
        seconds=seconds,
        device=describe(device).device,
        device_kind="cuda" if on_gpu else "cpu",
        peak_memory_bytes=max(peaks),
        flops_per_image=flops_per_image,
        images_forward=meter.images_forward
        + adapted.images_forward
        + sum(each.images for each in extractions),
        images_backward=adapted.images_backward,
        trained_parameters=adapted.trained_parameters,
        energy_joules=_total([*joules, *(each.energy_joules for each in extractions)]),
        core_seconds=None
        if on_gpu
        else _total([*core_seconds, *(each.core_seconds for each in extractions)]),
        devices=devices(),
        extractions=extractions,
        overhead={name: span.seconds for name, span in meter.phases.items() if name in OUTSIDE},
    )


def _total(amounts: Sequence[float | None]) -> float | None:
    """The sum; None if any is unknown."""
    known = [each for each in amounts if each is not None]
    return math.fsum(known) if len(known) == len(amounts) else None


def devices() -> int:
    """The number of ranks that work on a job together, each on a device of its own."""
    return dist.get_world_size() if _is_distributed() else 1


def gathered(value: Any) -> list[Any]:
    """The value of every rank, in their order; every rank must call this."""
    if not _is_distributed():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
