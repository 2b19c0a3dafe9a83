"""What the jobs of one process share: the device, built backbones, opened tasks and the feature store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vitbench.api import Task
from vitbench.backbones.models.built import BuiltBackbone
from vitbench.compute.flops import forward_flops
from vitbench.data.decoded import DecodedStore
from vitbench.errors import VitbenchError
from vitbench.feature_store import FeatureStore
from vitbench.randomness import seeded
from vitbench.records import Job
from vitbench.registry import BACKBONES, TASKS, Entry

BACKBONES_HELD = 2


@dataclass
class Workbench:
    """Shared by jobs that run one after another; nothing in it moves a score."""

    device: str
    cache: Path
    checkpoints: Path | None = None
    report: Callable[[str, int, int], None] = lambda _phase, _done, _total: None
    built: OrderedDict[str, BuiltBackbone | VitbenchError] = field(default_factory=OrderedDict)
    tasks: dict[str, tuple[Entry, Task]] = field(default_factory=dict)
    flops: dict[str, int | None] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FeatureStore(self.cache / "features")
        self.decoded = DecodedStore(self.cache / "decoded")

    def backbone(self, job: Job) -> BuiltBackbone:
        """The job's backbone at its resolution, on the device, frozen. A build that failed is not tried again."""
        key = backbone_key(job)
        if key not in self.built:
            while len(self.built) >= BACKBONES_HELD:
                self.forget(next(iter(self.built)))
            try:
                self.built[key] = self._build(job)
            except VitbenchError as error:
                self.built[key] = error
        found = self.built[key]
        if isinstance(found, VitbenchError):
            raise found
        return found

    def forget(self, key: str) -> None:
        """Drop a backbone and what is known of its weights."""
        self.built.pop(key, None)
        self.digests.pop(key, None)

    def _build(self, job: Job) -> BuiltBackbone:
        with seeded(
            0, "construction"
        ):  # weights that a plugin leaves to chance are the same in every process
            entry, module = BACKBONES.make(job.backbone.spec, job.backbone.options)
        backbone = BuiltBackbone(module, job.backbone.label, entry.labels)
        if job.resolution_px is not None:
            backbone = backbone.at_resolution(job.resolution_px)
        backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return backbone.eval()

    def weights_digest(self, job: Job) -> str:
        """The digest of the job's weights, computed once."""
        key = backbone_key(job)
        if key not in self.digests:
            self.digests[key] = self.backbone(job).weights_digest()
        return self.digests[key]

    def flops_per_image(self, job: Job, backbone: BuiltBackbone) -> int | None:
        """Analytic FLOPs of the job's backbone, as it is or adapted to another input size; counted once."""
        size_px = backbone.input.size_px
        key = f"{backbone_key(job)} {size_px}"
        if key not in self.flops:
            self.flops[key] = forward_flops(backbone, size_px)
        return self.flops[key]

    def task(self, job: Job) -> tuple[Entry, Task]:
        """The job's task; its splits are read when first asked for."""
        key = f"{sorted(job.task.identity().items())}"
        if key not in self.tasks:
            self.tasks[key] = TASKS.make(job.task.spec, job.task.options)
        return self.tasks[key]


def backbone_key(job: Job) -> str:
    """What tells built backbones apart."""
    return f"{sorted(job.backbone.identity().items())}@{job.resolution_px}"
