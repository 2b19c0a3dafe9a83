"""Main memory that a worker on a Ray cluster needs for a job."""

from __future__ import annotations

from vitbench.backbones.build import build
from vitbench.core.job import Job
from vitbench.engine.schedule import trains

WORKER_BYTES = 2 * 2**30  # interpreter, torch, and batches ahead of the device
# Copies of the weights in main memory: this backbone and the previous one; in training also gradients, momentum and average.
COPIES, COPIES_IN_TRAINING = 2, 5


class MemoryNeeds:
    """The main memory that a worker needs for a job. Each backbone's size is looked up once."""

    def __init__(self) -> None:
        self._params: dict[str, int] = {}

    def __call__(self, job: Job) -> int:
        """Bytes for one job. If its backbone cannot be built without weights, only the worker itself is counted."""
        key = str(job.backbone.identity())
        if key not in self._params:
            try:
                self._params[key] = build(job.backbone.spec, job.backbone.options, meta=True).params
            except Exception:  # noqa: BLE001  the job itself will fail and say why
                self._params[key] = 0
        return WORKER_BYTES + 4 * self._params[key] * (COPIES_IN_TRAINING if trains(job) else COPIES)
