"""The tidy table of records: one row per job and metric, and one row without a value per failed job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from vitbench.core.record import Record

COLUMNS = (
    "suite", "backbone", "family", "weights", "pretrain_data", "task", "group", "protocol", "budget", "seed", "metric",
    "value", "ci_low", "ci_high", "n_test", "clusters", "status", "conformant", "limit", "pretrain_tpu_v3_core_days",
    "transfer_gpu_seconds", "transfer_seconds", "shared_seconds", "core_seconds", "devices", "device", "flops_per_image",
    "params", "size_px", "dtype", "preprocess", "backbone_version", "task_version", "protocol_version", "error", "key",
    "metric_note", "trained_parameters",
)  # fmt: skip


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """The table that `vitbench export` writes; `value` is a fraction in [0, 1], but nats for `nll`.

    A metric that a record does not have has a row without a value; `metric_note` says why.
    """
    rows = [row for record in records for row in _rows(record)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).convert_dtypes()


def _rows(record: Record) -> list[dict[str, Any]]:
    job, facts, data, cost = record.job, record.backbone, record.data, record.cost
    common: dict[str, Any] = {
        "suite": job.suite.name,
        "backbone": job.backbone.label,
        "family": facts.family if facts else None,
        "weights": facts.weights if facts else None,
        "pretrain_data": facts.pretrain_data if facts else None,
        "task": job.task.label,
        "group": data.group if data else None,
        "protocol": job.protocol.label,
        "budget": job.budget,
        "seed": job.seed,
        "status": record.status,
        "conformant": record.conformant,
        "limit": job.limit,
        "transfer_gpu_seconds": cost.device_seconds if cost and cost.device_kind == "cuda" else None,
        "transfer_seconds": cost.device_seconds if cost else None,
        "shared_seconds": cost.shared_device_seconds if cost else None,
        "core_seconds": cost.core_seconds if cost else None,
        "devices": cost.devices if cost else None,
        "device": record.env.device,
        "flops_per_image": cost.flops_per_image if cost else None,
        "params": facts.params if facts else None,
        "pretrain_tpu_v3_core_days": facts.pretrain_tpu_v3_core_days if facts else None,
        "size_px": facts.size_px if facts else None,
        "dtype": job.dtype,
        "preprocess": record.preprocess or job.preprocess,
        "backbone_version": job.backbone.version,
        "task_version": job.task.version,
        "protocol_version": job.protocol.version,
        "trained_parameters": cost.trained_parameters if cost else None,
        "error": record.failure.message if record.failure else None,
        "key": record.key,
    }
    scores: list[dict[str, Any]] = [
        {
            "metric": name,
            "value": m.value,
            "ci_low": m.ci_low,
            "ci_high": m.ci_high,
            "n_test": m.n,
            "clusters": m.clusters,
        }
        for name, m in record.metrics.items()
    ]
    scores += [
        {
            "metric": name,
            "value": m.value,
            "ci_low": m.ci_low,
            "ci_high": m.ci_high,
            "n_test": m.n,
            "metric_note": m.note or None,
        }
        for name, m in (record.further.items() if record.status == "ok" else ())
    ]
    return [{**common, **score} for score in scores or [{"metric": None}]]
