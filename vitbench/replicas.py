"""Several processes as one worker: `torchrun --nproc-per-node=4 -m vitbench run SUITE`.

Every process runs every job; fine-tuning shares its batches among them, and whatever else a job does each does for itself. The
first gives out the jobs and keeps the records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from vitbench.compute.environment import settle
from vitbench.records import Job
from vitbench.runner import Outcome, run_job
from vitbench.workbench import Workbench

if TYPE_CHECKING:
    from vitbench.executors import Workers


def count() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def lead(
    jobs: Iterator[Job], workers: Workers, report: Callable[[str, int, int], None]
) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs with all processes, as the first of them."""
    bench = _joined(workers, report)
    try:
        for job in jobs:
            dist.broadcast_object_list([job.model_dump_json()], src=0)
            yield job, run_job(job, bench)
        dist.broadcast_object_list([""], src=0)
    finally:
        dist.destroy_process_group()


def follow(workers: Workers) -> None:
    """Run what the first process gives out, until it has nothing more."""
    bench = _joined(workers, lambda _phase, _done, _total: None)
    try:
        while True:
            box = [""]
            dist.broadcast_object_list(box, src=0)
            if not box[0]:
                return
            run_job(Job.model_validate_json(box[0]), bench)
    finally:
        dist.destroy_process_group()


def _joined(workers: Workers, report: Callable[[str, int, int], None]) -> Workbench:
    on_gpu = workers.device.startswith("cuda")
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if on_gpu else workers.device
    if on_gpu:
        torch.cuda.set_device(device)
    settle(None if on_gpu else max((os.cpu_count() or 1) // count(), 1))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    return Workbench(device, workers.cache, workers.checkpoints, report)
