"""Several processes as one worker: `torchrun --nproc-per-node=4 -m vitbench run SUITE`, or a job that asks for them.

Every process runs every job; fine-tuning shares its batches among them, and whatever else a job does each does for itself. The
first gives out the jobs and keeps the records.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pandas as pd
import torch
import torch.distributed as dist

from vitbench.compute.environment import cores, settle
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job
from vitbench.core.plugins import load_all
from vitbench.core.record import Record
from vitbench.engine.executors.fork_server import leave
from vitbench.engine.job import run_job
from vitbench.engine.outcome import Outcome, failed
from vitbench.engine.worker import Worker

TOLD_BYTES = 1500  # of what failed processes said
ALONE_S = 300.0  # for others to end with a job that has failed here
GRACE_S = 30.0  # from a request to stop to the end


def count() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def lead(jobs: Iterator[Job], worker: Worker) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs with all processes, as the first of them."""
    worker = _joined(worker)
    try:
        for number, job in enumerate(jobs):
            dist.broadcast_object_list([job.model_dump_json()], src=0)
            yield job, _settled(run_job(job, worker), number)
        dist.broadcast_object_list([""], src=0)
    finally:
        dist.destroy_process_group()


def follow(worker: Worker) -> None:
    """Run what the first process gives out, until it has nothing more."""
    worker = _joined(worker)
    try:
        for number in itertools.count():
            box = [""]
            dist.broadcast_object_list(box, src=0)
            if not box[0]:
                return
            _settled(run_job(Job.model_validate_json(box[0]), worker), number)
    finally:
        dist.destroy_process_group()


def _settled(outcome: Outcome, number: int) -> Outcome:
    """See that a job which failed here has ended in all processes: others may be waiting for this one within it, for ever."""
    store = dist.distributed_c10d._get_default_store()
    ends = [f"vitbench/{number}/{rank}" for rank in range(dist.get_world_size())]
    failure = outcome.record.failure
    store.set(ends[dist.get_rank()], outcome.record.status)
    if failure is not None:
        try:
            store.wait(ends, timedelta(seconds=ALONE_S))
        except RuntimeError:
            said = f"{outcome.record.job.title}: one process of several failed alone: {failure.kind}: {failure.message}"
            sys.stderr.write(f"error: {said}\n")
            leave(1)  # torchrun ends the others
    return outcome


def _joined(worker: Worker) -> Worker:
    on_gpu = worker.device.startswith("cuda")
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if on_gpu else worker.device
    if on_gpu:
        torch.cuda.set_device(device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count()))
    settle(max(cores() // here, 1))  # torchrun leaves each one core
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    return Worker(device, worker.cache, worker.run)


def apart(job: Job, worker: Worker, processes: int, plugins: Sequence[str]) -> Outcome:
    """Run one job in processes of its own that train together; they end with it."""
    device = worker.device.partition(":")[0]
    if device == "cuda" and torch.cuda.device_count() < processes:
        short = (
            f"it asks for {processes} GPUs, and there are {torch.cuda.device_count()}: set replicas to that"
        )
        return Outcome(failed(job, worker.device, VitbenchError(short)))
    with tempfile.TemporaryDirectory(prefix="vitbench-") as place:
        request = {
            "job": job.model_dump(mode="json"), "device": device, "cache": str(worker.cache),
            "run": str(worker.run) if worker.run else None, "plugins": list(plugins), "out": place,
            "parent": os.getpid(),
        }  # fmt: skip
        (Path(place) / "request.json").write_text(json.dumps(request))
        how = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            "-m",
            "vitbench.engine.executors.torchrun",
        ]
        code, said = _ended([sys.executable, *how, f"{place}/request.json"], Path(place) / "said.txt")
        try:
            record = Record.model_validate_json((Path(place) / "record.json").read_bytes())
        except (OSError, ValueError):
            trouble = f"its {processes} processes ended with {code}: {said[-TOLD_BYTES:]}"
            return Outcome(failed(job, worker.device, VitbenchError(trouble)))
        table = Path(place) / "predictions.parquet"
        return Outcome(record, pd.read_parquet(table) if table.exists() else None)


def _ended(command: Sequence[str], said: Path) -> tuple[int, str]:
    """Run a command to its end: its exit code, and what it said. Stopped ourselves, we leave it time to keep its state."""
    with said.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return code, said.read_text(errors="replace")


def _end_with(parent: int) -> None:
    """Nobody trains on for a process that is gone, however it ended."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


def _main(request_path: Path) -> None:
    """One of the processes of `apart`."""
    request = json.loads(request_path.read_text())
    threading.Thread(target=_end_with, args=(request["parent"],), daemon=True).start()
    load_all(request["plugins"])
    run = Path(request["run"]) if request["run"] else None
    worker = _joined(Worker(request["device"], Path(request["cache"]), run))
    try:
        outcome = _settled(run_job(Job.model_validate(request["job"]), worker), 0)
        if dist.get_rank() == 0:
            place = Path(request["out"])
            if outcome.predictions is not None:
                outcome.predictions.to_parquet(place / "predictions.parquet", index=False)
            (place / "record.json").write_text(outcome.record.model_dump_json())
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
    leave(0)
