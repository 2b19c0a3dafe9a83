"""A worker: the device, backbones, tasks and caches that the jobs of one process share."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from vitbench.api import Backbone, Protocol, Task
from vitbench.backbones.build import build
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.quick_check import refuse_faulty
from vitbench.compute.flops import forward_flops
from vitbench.core.entry import Entry
from vitbench.core.errors import Problem, VitbenchError
from vitbench.core.gc_pause import gc_paused
from vitbench.core.job import Component, Job, backbone_key
from vitbench.core.registry import BACKBONES, TASKS, Registry
from vitbench.data.decoded_cache import DecodedCache
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.forward_pass import Verdicts
from vitbench.engine.job_log import logged
from vitbench.store.heartbeat import HeartbeatWriter

BACKBONES_HELD = 2
SHA256_LETTERS = 64


@dataclass
class Worker:
    """State shared by jobs that run one after another; no score depends on it. `run` is the run directory, if any.

    With `keep_scores`, outcomes have all class scores.
    """

    device: str
    cache: Path
    run: Path | None = None
    keep_scores: bool = False
    built: OrderedDict[str, BuiltBackbone | VitbenchError] = field(default_factory=OrderedDict)
    tasks: dict[str, tuple[Entry, Task]] = field(default_factory=dict)
    flops: dict[str, int | None] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.heartbeat = HeartbeatWriter(None, "", "", self.device)
        self.warm: WeakKeyDictionary[Backbone, set[str]] = WeakKeyDictionary()  # precisions used so far
        self.verdicts: Verdicts = WeakKeyDictionary()
        self.warm_protocols: set[type[Protocol]] = set()
        self.store = FeatureCache(self.cache / "features")
        self.decoded = DecodedCache(self.cache / "decoded")

    @contextlib.contextmanager
    def watched(self, job: Job) -> Iterator[None]:
        """Within the block, the job writes its heartbeat and its log to the run directory."""
        run = self.run if os.environ.get("RANK", "0") == "0" else None  # rank 0 alone
        self.heartbeat = HeartbeatWriter(run / ".running" if run else None, job.key, job.title, self.device)
        try:
            with logged(run / "logs" / f"{job.key}.log" if run else None):
                yield
        finally:
            self.heartbeat.clear()

    def checkpoints(self, job: Job) -> Path | None:
        """The folder of a job's checkpoints."""
        return self.run / "checkpoints" / job.key if self.run else None

    def backbone(self, job: Job) -> BuiltBackbone:
        """The job's backbone at its image size, on the device, in eval mode. A failed build is not tried again."""
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

    def others_bytes(self, job: Job) -> int:
        """The weights of backbones that are held for other jobs."""
        key = backbone_key(job)
        others = [b for other, b in self.built.items() if other != key and isinstance(b, BuiltBackbone)]
        return sum(tensor.nbytes for b in others for tensor in (*b.parameters(), *b.buffers()))

    def forget(self, key: str) -> None:
        """Drop a backbone and its digest."""
        self.built.pop(key, None)
        self.digests.pop(key, None)

    def _build(self, job: Job) -> BuiltBackbone:
        check_contents(BACKBONES, job.backbone)
        with gc_paused():  # it may import timm
            backbone = build(job.backbone.spec, job.backbone.options, job.backbone.label, job.resolution_px)
        check_contents(BACKBONES, job.backbone)  # a file that was replaced while it was read
        backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        refuse_faulty(backbone.eval(), job.backbone.spec)
        if self.device == "cpu":  # the checks were its first images; a GPU needs a whole batch for that
            self.warm[backbone] = {"float32"}
        return backbone

    def warm_up(self, protocol: Protocol) -> None:
        """Have a protocol do once what only its first job in this process would do."""
        kind = type(protocol)
        if kind not in self.warm_protocols:
            self.warm_protocols.add(kind)
            protocol.warm_up(self.device)

    def weights_digest(self, job: Job) -> str:
        """The digest of the job's weights, computed once."""
        key = backbone_key(job)
        if key not in self.digests:
            self.digests[key] = self.backbone(job).weights_digest()
        return self.digests[key]

    def flops_per_image(self, job: Job, backbone: BuiltBackbone) -> int | None:
        """FLOPs of a forward pass of the job's backbone at its image size, counted once; with what tuning has added to it."""
        size_px = backbone.input.size_px
        reads = getattr(backbone.module, "reads", "")  # of a probe: what its head reads
        key = f"{backbone_key(job)} {size_px} {backbone.params} {reads}"
        if key not in self.flops:
            self.flops[key] = forward_flops(backbone, size_px)
        return self.flops[key]

    def task(self, job: Job) -> tuple[Entry, Task]:
        """The job's task; its splits are read when first asked for."""
        key = job.task.identity_text
        check_contents(TASKS, job.task)
        if key not in self.tasks:
            self.tasks[key] = TASKS.make(job.task.spec, job.task.options)
        return self.tasks[key]


def check_contents(registry: Registry, component: Component) -> None:
    """Compare the code, files and folders of a component with what they were when the job was planned.

    Raises:
        VitbenchError: one has changed: the job's key names other content than would be used.
    """
    entry = registry.get(component.spec)[0]
    changes = {f"the code of {component.spec}": (component.version, entry.version)}
    found_now = entry.content(component.options, component.argument)
    places = entry.places(component.options, component.argument)
    for name in component.contents.keys() | found_now.keys():
        what = f"{places[name]}" if name in places else f"the data of {component.spec}"
        changes[what] = (component.contents.get(name, "nothing"), found_now.get(name, "nothing"))
    for what, (planned, found) in changes.items():
        if found != planned:
            message = (
                f"{what} has changed since the job was planned: {_short(planned)} then, {_short(found)} now"
            )
            raise VitbenchError(Problem(message, next_step="run the same command again: it plans anew"))


def _short(digest: str) -> str:
    """A SHA-256 shortened for a message; a version as it is."""
    return f"sha256 {digest[:16]}" if len(digest) == SHA256_LETTERS else digest
