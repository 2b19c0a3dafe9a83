"""Backbones without weights, on the meta device: for what must know shapes, FLOPs or memory before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from vitbench.backbones.models.built import BuiltBackbone
from vitbench.records import Job
from vitbench.registry import BACKBONES
from vitbench.schedule import trains

WORKER_BYTES = 2 * 2**30  # interpreter, torch, and batches ahead of the device
# Copies of the weights in main memory: the backbone and the one before it; in training also gradients, momentum and average.
COPIES, COPIES_IN_TRAINING = 2, 5


def skeleton(job: Job) -> BuiltBackbone:
    """A job's backbone at its resolution."""
    backbone = bare(job.backbone.spec, job.backbone.options, job.backbone.label)
    if job.resolution_px is not None:
        with torch.device("meta"):
            backbone = backbone.at_resolution(job.resolution_px)
    return backbone.to("meta").eval()


def bare(spec: str, options: dict[str, Any], label: str) -> BuiltBackbone:
    """A backbone's shapes, nothing read or fetched where that can be helped."""
    entry = BACKBONES.get(spec)[0]
    if "pretrained" in entry.options.model_fields:
        options = {**options, "pretrained": False, "checkpoint": None}
    with torch.device("meta"):
        entry, module = BACKBONES.make(spec, options)
        return BuiltBackbone(module, label, entry.labels).to("meta").eval()


class MemoryNeeds:
    """Main memory that a worker needs for a job; each backbone's size is looked up once."""

    def __init__(self) -> None:
        self._params: dict[str, int] = {}

    def __call__(self, job: Job) -> int:
        """Bytes for one job; one whose backbone cannot be built without weights counts as a worker alone."""
        key = str(job.backbone.identity())
        if key not in self._params:
            try:
                self._params[key] = bare(job.backbone.spec, job.backbone.options, job.backbone.label).params
            except Exception:  # noqa: BLE001  what cannot be built fails as a job, and says why there
                self._params[key] = 0
        return WORKER_BYTES + 4 * self._params[key] * (COPIES_IN_TRAINING if trains(job) else COPIES)
