"""The cost of a run before it starts: images, FLOPs, seconds on this device, and disk space.

Backbones are built without weights, and only labels are read. The device's speed is measured on the costliest of these
backbones for a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import torch

from vitbench.api import Split, Task
from vitbench.backbones.build import build
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.throughput import rate
from vitbench.compute.environment import choose_device, describe, settle
from vitbench.compute.flops import forward_flops
from vitbench.core.errors import VitbenchError
from vitbench.core.files import write_atomically
from vitbench.core.job import Job
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.data.budgets import labelled_data, thinned
from vitbench.engine.outcome import now
from vitbench.engine.plan import RunPlan
from vitbench.engine.schedule import shared_work
from vitbench.engine.worker import backbone_key

CALIBRATION_S = 5.0
TRIED = 3  # number of backbones whose speed is measured
BACKWARD = 3  # FLOPs of a training step, in forward passes (docs/protocols.md#compute-accounting)
# Measured on quickstart: one record, and one row of predictions.
RECORD_BYTES, PREDICTION_BYTES = 6_000, 6


@dataclass(frozen=True)
class JobEstimate:
    """The work of one job beyond that of the jobs before it; `seconds` is None where the device's speed is unknown."""

    key: str
    images_forward: int
    images_backward: int
    flops_forward: int
    flops_backward: int
    disk_bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The estimates of jobs, and why the others cannot be estimated."""

    device: str
    created: str
    jobs: tuple[JobEstimate, ...]
    unknown: dict[str, str] = field(default_factory=dict)

    def total(self, name: str) -> float:
        """The sum of a field over all jobs."""
        return float(sum(getattr(job, name) or 0 for job in self.jobs))


def estimate(jobs: Sequence[Job], device: str) -> Estimate:
    """Estimate jobs on a device."""
    chosen = choose_device(device)
    count = _Count()
    found: list[JobEstimate] = []
    unknown: dict[str, str] = {}
    for job in jobs:
        try:
            found.append(count.job(job))
        except Exception as error:  # noqa: BLE001  a plugin's code may raise anything; the run reports it
            unknown[job.key] = str(error).partition("\n")[0]
    rates = _rates(count, jobs, found, chosen)
    timed = tuple(_timed(each, rates.get(count.backbone_of[each.key])) for each in found)
    return Estimate(describe(chosen).device, now(), timed, unknown)


def keep(plan: RunPlan, made: Estimate) -> None:
    """Write an estimate to the run directory; the report compares it with the time taken."""
    content = {"device": made.device, "created": made.created, "jobs": [asdict(job) for job in made.jobs]}
    write_atomically(plan.run.path / "estimate.json", json.dumps(content, indent=1) + "\n")


class _Count:
    """Estimates jobs in order. Features that several jobs read are counted for the first."""

    def __init__(self) -> None:
        self.skeletons: dict[str, BuiltBackbone] = {}
        self.flops: dict[tuple[str, int], int] = {}
        self.tasks: dict[str, Task] = {}
        self.backbone_of: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()

    def job(self, job: Job) -> JobEstimate:
        """Estimate one job.

        Raises:
            VitbenchError: its backbone cannot be built without weights, or its FLOPs cannot be counted.
        """
        key = self.backbone_of[job.key] = backbone_key(job)
        if key not in self.skeletons:
            self.skeletons[key] = build(
                job.backbone.spec, job.backbone.options, job.backbone.label, job.resolution_px, meta=True
            )
        backbone = self.skeletons[key]
        identity = str(job.task.identity())
        if identity not in self.tasks:
            self.tasks[identity] = TASKS.make(job.task.spec, job.task.options)[1]
        task = self.tasks[identity]
        data = labelled_data(task, job.budget, job.seed, job.limit)
        test = thinned(task.test(), job.limit)
        protocol = PROTOCOLS.make(job.protocol.spec, job.protocol.options)[1]
        effort = protocol.effort(
            data.train, data.val, job.task.name, backbone.trainable().params, job.resolution_px
        )
        if effort is None:
            forward, backward = self._new(job, [*(data.pools or (data.train, data.val)), test]), 0
            flops = self._flops(key, backbone.input.size_px)
        else:
            forward, backward = effort.images_forward + len(test), effort.images_backward
            flops = self._flops(key, effort.size_px or backbone.input.size_px)
        kept = RECORD_BYTES + PREDICTION_BYTES * len(test)
        features = 0 if effort else forward * backbone.feature_dim * 4
        return JobEstimate(
            job.key, forward, backward, forward * flops, backward * BACKWARD * flops, kept + features
        )

    def _new(self, job: Job, splits: Iterable[Split]) -> int:
        """The number of images whose features no earlier job computes."""
        total = 0
        for split in splits:
            part = (shared_work(job), f"{split.source.fingerprint} {len(split)} {split.indices[:1]}")
            if len(split) and part not in self._seen:
                self._seen.add(part)
                total += len(split)
        return total

    def _flops(self, key: str, size_px: int) -> int:
        if (key, size_px) not in self.flops:
            backbone = self.skeletons[key]
            with torch.device("meta"):
                sized = backbone.at_least(size_px)
            counted = forward_flops(sized, sized.input.size_px)
            if counted is None:
                raise VitbenchError(f"the FLOPs of {backbone.name} cannot be counted")
            self.flops[key, size_px] = counted
        return self.flops[key, size_px]


def _rates(count: _Count, jobs: Sequence[Job], found: Sequence[JobEstimate], device: str) -> dict[str, float]:
    """FLOPs per second of every backbone; those not measured get the median of the others."""
    work: dict[str, int] = {}
    dtypes = {count.backbone_of[job.key]: job.dtype for job in jobs if job.key in count.backbone_of}
    for each in found:
        key = count.backbone_of[each.key]
        work[key] = work.get(key, 0) + each.flops_forward + each.flops_backward
    costliest = sorted((key for key in work if work[key]), key=lambda key: work[key], reverse=True)[:TRIED]
    if not costliest:
        return {}
    settle(None)
    share_s = CALIBRATION_S / len(costliest)
    measured = {key: rate(count.skeletons[key], device, dtypes[key], share_s) for key in costliest}
    middle = sorted(measured.values())[len(measured) // 2]
    return {key: measured.get(key, middle) for key in work}


def _timed(each: JobEstimate, rate: float | None) -> JobEstimate:
    flops = each.flops_forward + each.flops_backward
    seconds = flops / rate if rate else 0.0 if not flops else None
    return JobEstimate(**{**asdict(each), "seconds": seconds})
