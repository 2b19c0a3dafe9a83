"""Main memory that a worker on a Ray cluster needs for a job."""

from __future__ import annotations

from vitbench.backbones.build import build
from vitbench.core.job import Job
from vitbench.engine.schedule import trains

WORKER_BYTES = 2 * 2**30  # interpreter, torch, and batches ahead of the device
# Copies of the weights in main memory: the backbone and the one before it; in training also gradients, momentum and average.
COPIES, COPIES_IN_TRAINING = 2, 5


class MemoryNeeds:
    """Main memory that a worker needs for a job; each backbone's size is looked up once."""

    def __init__(self) -> None:
        self._params: dict[str, int] = {}

    def __call__(self, job: Job) -> int:
        """Bytes for one job; one whose backbone cannot be built without weights counts as a worker alone."""
        key = str(job.backbone.identity())
        if key not in self._params:
            try:
                self._params[key] = build(job.backbone.spec, job.backbone.options, meta=True).params
            except Exception:  # noqa: BLE001  what cannot be built fails as a job, and says why there
                self._params[key] = 0
        return WORKER_BYTES + 4 * self._params[key] * (COPIES_IN_TRAINING if trains(job) else COPIES)
