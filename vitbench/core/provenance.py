"""Where a backbone's weights come from."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.core.record import LoadReport, Weights


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from; shown beside every score. `notes` are added to the record."""

    family: str = "unknown"
    weights: Weights = "unknown"
    pretrain_data: str = "unknown"
    source: str = ""
    load: LoadReport | None = None
    trained_on: tuple[str, ...] | None = None  # data sets whose labels they were trained on; None: not known
    pretrain_tpu_v3_core_days: float | None = None  # as published
    pretrain_flops: float | None = None  # as counted by whoever trained them
    licence: str = ""
    pixel_warning: str = ""  # why pixels are not normalised as they were when these weights were trained
    pixels_unknown: str = ""  # why it is not known how they were
    notes: tuple[str, ...] = ()
