"""The cost of a run before it starts: images, FLOPs, seconds on this device, and disk space.

Backbones are built without weights where their costs are not known yet (network_costs.py), and only labels are read. How fast
the device is, or a card that is not here, says speeds.py.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from vitbench.api import Protocol, Split, Task
from vitbench.compute.compiling import pass_pays, steps_pay
from vitbench.compute.environment import choose_device, device_name
from vitbench.compute.roofline import card
from vitbench.core.files import digest_bytes, write_lines
from vitbench.core.job import Job, backbone_key, shots_of
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.core.settings import cache_dir
from vitbench.data.budgets import LabelledData, labelled_data, read_for, thinned
from vitbench.data.tfds.known_sizes import assuming_sizes
from vitbench.engine.memory_needs import MemoryNeed, memory_needs
from vitbench.engine.network_costs import Networks
from vitbench.engine.outcome import now
from vitbench.engine.plan import RunPlan
from vitbench.engine.precision_remark import float32_remark
from vitbench.engine.schedule import shared_work
from vitbench.engine.speeds import Work, choose_speeds

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
    """The estimates of jobs, and why the others cannot be estimated; `speed` says where seconds come from.

    `absent` are data sets that are not here, whose sizes are the reference's; `remark` is what could cost less; `memory` is
    what training takes.
    """

    device: str
    created: str
    jobs: tuple[JobEstimate, ...]
    speed: str = ""
    unknown: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    remark: str = ""
    memory: tuple[MemoryNeed, ...] = ()

    def total(self, name: str) -> float:
        """The sum of a field over all jobs."""
        return float(math.fsum(getattr(job, name) or 0 for job in self.jobs))


def estimate(jobs: Sequence[Job], device: str, on: str | None = None, *, measure: bool = False) -> Estimate:
    """Estimate jobs on a device of this machine, or on a card that need not be here.

    With `measure`, the speed of the costliest networks is measured unless it was within a day, whatever is known.

    Raises:
        UsageError: there is no such device or card.
    """
    asked = card(on) if on else None
    chosen = asked.id if asked else choose_device(device)
    networks = Networks(cache_dir())
    count = _Count(networks)
    found: list[JobEstimate] = []
    unknown: dict[str, str] = {}
    with assuming_sizes() as absent:
        for job in jobs:
            try:
                found.append(count.job(job))
            except Exception as error:  # noqa: BLE001  a plugin's code may raise anything; the run reports it
                unknown[job.key] = str(error).partition("\n")[0]
    by_key, first = _jobs_of(jobs, count.work)
    speeds = choose_speeds(networks, first, list(count.work.values()), chosen, asked, measure=measure)
    timed = tuple(
        replace(each, seconds=speeds.seconds(by_key[each.key], count.work[each.key])) for each in found
    )
    return Estimate(
        asked.id if asked else device_name(chosen),
        now(),
        timed,
        speeds.said,
        unknown,
        tuple(absent),
        float32_remark(jobs, chosen, asked),
        tuple(memory_needs(networks, first, count.work.values(), asked)),
    )


def _jobs_of(jobs: Sequence[Job], work: Mapping[str, Work]) -> tuple[dict[str, Job], dict[str, Job]]:
    """The jobs by key, and the first job of each backbone, of those whose work is known."""
    by_key = {job.key: job for job in jobs if job.key in work}
    return by_key, {work[key].backbone: job for key, job in reversed(by_key.items())}


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
    """What a job reads: labelled data, a number of test images, and by name the sizes of the splits whose features it needs.

    `val` is the name of the validation split, which not every protocol reads; '' if there is none.
    """

    labelled: LabelledData
    test_images: int
    parts: tuple[tuple[str, int], ...]
    val: str = ""


def _data(task: Task, job: Job) -> _Data:
    labelled = labelled_data(task, job.budget, job.seed, job.limit)
    test = thinned(task.test(), job.limit)
    train, val = (read_for(split, labelled.pools) for split in (labelled.train, labelled.val))
    further = [thinned(part(), job.limit) for each in task.test_sets() for part in each.parts.values()]
    parts = tuple((_name(split), len(split)) for split in (train, val, test, *further) if len(split))
    tested = math.fsum(map(len, (test, *further)))
    return _Data(labelled, int(tested), parts, _name(val) if len(val) else "")


def _name(split: Split) -> str:
    return f"{split.source.fingerprint} {digest_bytes(split.indices.tobytes())}"


class _Count:
    """Estimates jobs in order. Features that several jobs read are counted for the first.

    Backbones, tasks, data and protocols are made once for all jobs that share them.
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.work: dict[str, Work] = {}
        self._tasks: dict[str, Task] = {}
        self._data: dict[tuple[str, str, int, int | None], _Data] = {}
        self._protocols: dict[str, Protocol] = {}
        self._seen: set[tuple[str, str]] = set()

    def job(self, job: Job) -> JobEstimate:
        """Estimate one job.

        Raises:
            VitbenchError: its backbone cannot be built without weights, or its FLOPs cannot be counted.
        """
        key = sys.intern(backbone_key(job))  # one text for all jobs
        cost, data = self.networks.cost(key, job), self._data_of(job)
        train, val = data.labelled.train, data.labelled.val
        protocol = self._protocol(job)
        effort = protocol.effort(train, val, job.task.name, cost.params, job.resolution_px)
        passes: list[int] = []
        if effort is None:
            parts = [part for part in data.parts if part[0] != data.val or protocol.reads_val()]
            passes = self._new(job, parts)
            forward, backward = sum(passes), 0
            size_px = cost.size_px
        else:
            forward, backward = effort.images_forward + data.test_images, effort.images_backward
            size_px = effort.size_px or cost.size_px
        flops = self.networks.flops(key, job, size_px)
        step_flops = self.networks.step_flops(key, job, size_px, protocol) if backward else 0
        kept = RECORD_BYTES + PREDICTION_BYTES * data.test_images
        features = 0 if effort else forward * cost.feature_dim * 4
        found = JobEstimate(
            job.key, forward, backward, forward * flops, backward * step_flops, kept + features
        )
        total = found.flops_forward + found.flops_backward
        long = sum(images * flops for images in passes if pass_pays(images, flops))
        if effort and backward and steps_pay(backward // effort.runs, size_px):
            long += found.flops_backward
        step_passes = step_flops / flops if flops else 0.0
        self.work[job.key] = Work(key, size_px, forward, backward, total, step_passes, long)
        return found

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

    def _new(self, job: Job, parts: Iterable[tuple[str, int]]) -> list[int]:
        """The numbers of images of the splits whose features no earlier job computes."""
        new, work = [], shared_work(job)
        for name, images in parts:
            if (work, name) not in self._seen:
                self._seen.add((work, name))
                new.append(images)
        return new
