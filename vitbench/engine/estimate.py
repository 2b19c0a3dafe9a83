"""The cost of a run before it starts: images, FLOPs, seconds on this device, and disk space.

Backbones are built without weights, and only labels are read. The device's speed is measured on the costliest of these
backbones for a few seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import torch

from vitbench.api import Protocol, Task
from vitbench.backbones.build import build
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.throughput import rate
from vitbench.compute.environment import choose_device, describe, settle
from vitbench.compute.flops import forward_flops
from vitbench.core.errors import VitbenchError
from vitbench.core.files import write_lines
from vitbench.core.job import Job, shots_of
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.data.budgets import LabelledData, labelled_data, thinned
from vitbench.engine.outcome import now
from vitbench.engine.plan import RunPlan
from vitbench.engine.schedule import shared_work
from vitbench.engine.worker import backbone_key

CALIBRATION_S = 5.0
TRIED = 3  # number of backbones whose speed is measured
BACKWARD = 3  # FLOPs of a training step, in forward passes (docs/protocols.md#compute-accounting)
# Measured on quickstart: one record, and one row of predictions.
RECORD_BYTES, PREDICTION_BYTES = 6_000, 6


@dataclass(frozen=True, slots=True)  # slots: a suite may have 100,000
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
    write_lines(plan.run.path / "estimate.json", _lines(made))


def _lines(made: Estimate) -> Iterator[str]:
    """The lines of estimate.json, one for each job: the whole text takes a hundred times as much memory as a line."""
    yield f'{{"device": {json.dumps(made.device)}, "created": {json.dumps(made.created)}, "jobs": ['
    names = [each.name for each in fields(JobEstimate)]
    for place, job in enumerate(made.jobs, 1):
        yield json.dumps({name: getattr(job, name) for name in names}) + "," * (place < len(made.jobs))
    yield "]}"


@dataclass(frozen=True)
class _Data:
    """What a job reads: labelled data, a number of test images, and by name the sizes of the splits whose features it needs."""

    labelled: LabelledData
    test_images: int
    parts: tuple[tuple[str, int], ...]


def _data(task: Task, job: Job) -> _Data:
    labelled = labelled_data(task, job.budget, job.seed, job.limit)
    test = thinned(task.test(), job.limit)
    splits = [*(labelled.pools or (labelled.train, labelled.val)), test]
    parts = ((f"{s.source.fingerprint} {len(s)} {s.indices[:1]}", len(s)) for s in splits if len(s))
    return _Data(labelled, len(test), tuple(parts))


class _Count:
    """Estimates jobs in order. Features that several jobs read are counted for the first.

    Backbones, tasks, data and protocols are made once for all jobs that share them.
    """

    def __init__(self) -> None:
        self.skeletons: dict[str, BuiltBackbone] = {}
        self.flops: dict[tuple[str, int], int] = {}
        self.backbone_of: dict[str, str] = {}
        self._params: dict[str, int] = {}
        self._tasks: dict[str, Task] = {}
        self._data: dict[tuple[str, str, int, int | None], _Data] = {}
        self._protocols: dict[str, Protocol] = {}
        self._seen: set[tuple[str, str]] = set()

    def job(self, job: Job) -> JobEstimate:
        """Estimate one job.

        Raises:
            VitbenchError: its backbone cannot be built without weights, or its FLOPs cannot be counted.
        """
        key = self._skeleton(job)
        backbone, data = self.skeletons[key], self._data_of(job)
        train, val = data.labelled.train, data.labelled.val
        effort = self._protocol(job).effort(train, val, job.task.name, self._params[key], job.resolution_px)
        if effort is None:
            forward, backward = self._new(job, data.parts), 0
            flops = self._flops(key, backbone.input.size_px)
        else:
            forward, backward = effort.images_forward + data.test_images, effort.images_backward
            flops = self._flops(key, effort.size_px or backbone.input.size_px)
        kept = RECORD_BYTES + PREDICTION_BYTES * data.test_images
        features = 0 if effort else forward * backbone.feature_dim * 4
        return JobEstimate(
            job.key, forward, backward, forward * flops, backward * BACKWARD * flops, kept + features
        )

    def _skeleton(self, job: Job) -> str:
        """The key of the job's backbone, which is built without weights if it is the first job that needs it."""
        key = sys.intern(backbone_key(job))  # one text for all jobs
        if key not in self.skeletons:
            c = job.backbone
            self.skeletons[key] = build(c.spec, c.options, c.label, job.resolution_px, meta=True)
            self._params[key] = self.skeletons[key].trainable().params
        self.backbone_of[job.key] = key
        return key

    def _data_of(self, job: Job) -> _Data:
        task = job.task.identity_text
        seed = job.seed if shots_of(job.budget) else 0  # other budgets read the same data for every seed
        key = (task, job.budget, seed, job.limit)
        if key not in self._data:
            if task not in self._tasks:
                self._tasks[task] = TASKS.make(job.task.spec, job.task.options)[1]
            self._data[key] = _data(self._tasks[task], job)
        return self._data[key]

    def _protocol(self, job: Job) -> Protocol:
        key = job.protocol.identity_text
        if key not in self._protocols:
            self._protocols[key] = PROTOCOLS.make(job.protocol.spec, job.protocol.options)[1]
        return self._protocols[key]

    def _new(self, job: Job, parts: Iterable[tuple[str, int]]) -> int:
        """The number of images whose features no earlier job computes."""
        total, work = 0, shared_work(job)
        for name, images in parts:
            if (work, name) not in self._seen:
                self._seen.add((work, name))
                total += images
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
    """FLOPs per second of every backbone; those not measured, or that fail, get the median of the others."""
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
    measured: dict[str, float] = {}
    for key in costliest:
        found_rate = _rate(count.skeletons[key], device, dtypes[key], share_s)
        if found_rate is not None:
            measured[key] = found_rate
    if not measured:
        return {}
    middle = sorted(measured.values())[len(measured) // 2]
    return {key: measured.get(key, middle) for key in work}


def _rate(backbone: BuiltBackbone, device: str, dtype: str, seconds: float) -> float | None:
    """A backbone's FLOPs per second; None if it cannot be measured here."""
    try:
        return rate(backbone, device, dtype, seconds)
    except Exception:  # noqa: BLE001  a plugin's code may raise anything; the run reports it
        return None


def _timed(each: JobEstimate, rate: float | None) -> JobEstimate:
    flops = each.flops_forward + each.flops_backward
    seconds = flops / rate if rate else 0.0 if not flops else None
    return replace(each, seconds=seconds)
