"""The three compute quantities of a row, each from where it comes: a paper, a count, the clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from vitbench.compute.core_days import CORE_DAY_FLOPS, UTILISATION, UTILISATION_BAND
from vitbench.core.record import Record
from vitbench.published import PublishedRow, published
from vitbench.report.leaderboard import Compute
from vitbench.report.published_match import published_weights, weights_of


def measured_compute(records: Sequence[Record]) -> Compute:
    """A row's costs: A by its backbone's weights, B and C from its records."""
    costs = [record.cost for record in records if record.cost]
    facts = next((record.backbone for record in records if record.backbone), None)
    joules = [cost.energy_joules for cost in costs]
    weights = next((name for record in records if (name := published_weights(record))), "")
    quoted = _quoted(weights) if weights else Compute()
    stated = (
        facts.pretrain_tpu_v3_core_days
        if facts and not records[0].job.backbone.options.get("checkpoint")
        else None
    )
    if stated is not None and quoted.core_days != stated:
        quoted = Compute(stated, f"as {records[0].job.backbone.spec} states it")
    return Compute(
        quoted.core_days,
        quoted.core_days_source,
        quoted.estimated,
        flops_per_image=next((cost.flops_per_image for cost in costs), None),
        size_px=facts.size_px if facts else None,
        seconds=sum(cost.total_s for cost in costs) if costs else None,
        device=", ".join(sorted({cost.device for cost in costs})),
        joules=sum(j for j in joules if j is not None) if joules and None not in joules else None,
    )


@cache
def _quoted(timm_name: str) -> Compute:
    """What is printed of these weights' pre-training: core-days before what is converted to them."""
    rows = [published_compute(row) for row in published() if weights_of(row) == timm_name]
    known = [row for row in rows if row.core_days is not None]
    return min(known, key=lambda row: row.estimated is not None, default=Compute())


def published_compute(row: PublishedRow) -> Compute:
    """TPUv3-core-days as printed, or from printed exaFLOPs with the range of the conversion (facts/performance.md F)."""
    side = row.resolution if isinstance(row.resolution, int) else None
    told = f" ({row.note})" if "core-days" in row.note.lower() else ""
    cost, source = row.compute, (row.compute.source or row.source.citation) + told
    flops = None if cost.inference_gmacs is None else round(cost.inference_gmacs * 2e9)
    if cost.tpu_v3_core_days is not None:
        return Compute(cost.tpu_v3_core_days, source, flops_per_image=flops, size_px=side)
    if cost.exaflops is not None:
        at_peak = cost.exaflops * 1e18 / CORE_DAY_FLOPS
        least, most = UTILISATION_BAND
        said = f"from {cost.exaflops:g} exaFLOP in {source}"
        return Compute(at_peak / UTILISATION, said, (at_peak / most, at_peak / least), flops, side)
    return Compute(flops_per_image=flops, size_px=side)
