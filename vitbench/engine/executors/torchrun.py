"""Several ranks as one worker: `torchrun --nproc-per-node=4 -m vitbench run SUITE`, or a job that asks for them.

Every rank runs every job. Fine-tuning splits its batches among the ranks; every other step is repeated on each. Rank 0 hands
out the jobs and writes the records.
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
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from vitbench.compute.environment import cores, settle, use
from vitbench.core.errors import Problem, StartAgainError, VitbenchError
from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.engine.components import load_all
from vitbench.engine.executors.fork_server import leave
from vitbench.engine.job import run_job
from vitbench.engine.outcome import Outcome, failed
from vitbench.engine.worker import Worker

OUTPUT_BYTES = 1500  # of the output of failed processes
# For the other ranks to end a job that has failed on this one. torchrun then gives them 30 s to stop, and a run whose rank has
# gone is to end within a minute.
ALONE_S = 25.0
# Of the processes of one job, from its checkpoint: for a rank that has died, and each time that memory has run out in a sharded
# model, which halves its pieces.
RESTARTS = 3
LOOK_S = 0.1  # between two looks at whether rank 0 has handed out a job
_JOB = "vitbench/job/{}"  # key in the store of all ranks
FURTHER = "further-"  # begins the name of a file of predictions of a further test set
GRACE_S = 30.0  # between a request to stop and the end


def world_size() -> int:
    """The world size: the number of processes that torchrun has started, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def lead(jobs: Iterator[Job], worker: Worker) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs with all ranks, as rank 0."""
    worker = _joined(worker)
    try:
        number = 0
        for number, job in enumerate(jobs, 1):
            _store().set(_JOB.format(number), job.model_dump_json())
            outcome = _ended_on_all(run_job(job, worker), number)
            yield job, outcome
            _check_usable(outcome)
        _store().set(_JOB.format(number + 1), "")
    finally:
        dist.destroy_process_group()


def follow(worker: Worker) -> None:
    """Run the jobs that rank 0 hands out, until there are no more."""
    worker = _joined(worker)
    try:
        for number in itertools.count(1):
            text = _awaited(_JOB.format(number))
            if not text:
                return
            _check_usable(_ended_on_all(run_job(Job.model_validate_json(text), worker), number))
    finally:
        dist.destroy_process_group()


def _store() -> Any:
    """The store that all ranks share."""
    return dist.distributed_c10d._get_default_store()


def _awaited(key: str) -> str:
    """The value that rank 0 gives a key of the store.

    It may wait for jobs that other runs hold, for longer than any timeout of a collective.
    """
    while not _store().check([key]):
        time.sleep(LOOK_S)
    return str(_store().get(key).decode())


def _check_usable(outcome: Outcome) -> None:
    """Check that the ranks can run another job.

    Raises:
        VitbenchError: they have lost their GPUs.
    """
    if outcome.spoils_process:
        failure = outcome.record.failure
        message = f"{outcome.record.job.title}: {failure.message if failure else ''}"
        step = "run the same command again: it continues with the other jobs"
        raise VitbenchError(
            Problem(f"{message}; these processes cannot use their GPUs any more", next_step=step)
        )


def _ended_on_all(outcome: Outcome, number: int) -> Outcome:
    """Check that a job that failed on this rank has ended on all: others may wait for this one in a collective, for ever."""
    _start_again_for(outcome)
    store = _store()
    ends = [f"vitbench/{number}/{rank}" for rank in range(dist.get_world_size())]
    failure = outcome.record.failure
    store.set(ends[dist.get_rank()], outcome.record.status)
    if failure is not None:
        try:
            store.wait(ends, timedelta(seconds=ALONE_S))
        except RuntimeError:
            text = f"{outcome.record.job.title}: one rank failed alone: {failure.kind}: {failure.message}"
            sys.stderr.write(f"error: {text}\n")
            leave(1)  # torchrun ends the other ranks
    return outcome


def _start_again_for(outcome: Outcome) -> None:
    """End this process if its job can go on in new ones only; torchrun ends the other ranks, and starts all again if it may."""
    failure = outcome.record.failure
    if failure is not None and failure.kind == StartAgainError.__name__:
        sys.stderr.write(f"{outcome.record.job.title}: {failure.message}\n")
        leave(1)


def _joined(worker: Worker) -> Worker:
    on_gpu = worker.device.startswith("cuda")
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if on_gpu else worker.device
    use(device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    settle(max(cores() // here, 1))  # torchrun gives each rank one core
    join("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    return Worker(device, worker.cache, worker.run, worker.keep_scores)


def join(backend: str) -> None:
    """Join the other ranks, those that torchrun has started together with this one.

    When it starts all ranks of a node again, their store still has the addresses of those that have ended (torch 2.14).
    """
    if os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):  # nodes count restarts differently
        dist.init_process_group(backend)
        return
    store, rank, size = next(rendezvous("env://"))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"vitbench/start/{start}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)


def run_in_processes(job: Job, worker: Worker, processes: int, plugins: Sequence[str]) -> Outcome:
    """Run one job in several processes that train together and end with the job."""
    device = worker.device.partition(":")[0]
    if device == "cuda" and torch.cuda.device_count() < processes:
        short = f"it asks for {processes} GPUs, and there are {torch.cuda.device_count()}: set `replicas` to at most that"
        return Outcome(failed(job, worker.device, VitbenchError(short)))
    with tempfile.TemporaryDirectory(prefix="vitbench-") as folder:
        request = {
            "job": job.model_dump(mode="json"), "device": device, "cache": str(worker.cache),
            "run": str(worker.run) if worker.run else None, "plugins": list(plugins), "out": folder,
            "parent": os.getpid(), "keep_scores": worker.keep_scores,
        }  # fmt: skip
        (Path(folder) / "request.json").write_text(json.dumps(request), encoding="utf-8")
        how = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            f"--max-restarts={RESTARTS}",
            "-m",
            "vitbench.engine.executors.torchrun",
        ]
        code, output = _run_to_end(
            [sys.executable, *how, f"{folder}/request.json"], Path(folder) / "output.txt"
        )
        try:
            record = Record.model_validate_json((Path(folder) / "record.json").read_bytes())
        except (OSError, ValueError):
            trouble = f"its {processes} processes ended with {code}: {output[-OUTPUT_BYTES:]}"
            return Outcome(failed(job, worker.device, VitbenchError(trouble)))
        table, scores = Path(folder) / "predictions.parquet", Path(folder) / "scores.npy"
        return Outcome(
            record,
            pd.read_parquet(table) if table.exists() else None,
            np.load(scores, allow_pickle=False) if scores.exists() else None,
            further={
                name: pd.read_parquet(Path(folder) / f"{FURTHER}{name}.parquet") for name in record.test_sets
            },
        )


def _run_to_end(command: Sequence[str], output: Path) -> tuple[int, str]:
    """Run a command; return its exit code and its output. If we are stopped, it gets time to write its checkpoint."""
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return code, output.read_text(encoding="utf-8", errors="replace")


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, however that happened."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


def _main(request_path: Path) -> None:
    """One of the processes of `run_in_processes`."""
    request = json.loads(request_path.read_text(encoding="utf-8"))
    threading.Thread(target=_end_with, args=(request["parent"],), daemon=True).start()
    load_all(request["plugins"])
    run = Path(request["run"]) if request["run"] else None
    worker = _joined(Worker(request["device"], Path(request["cache"]), run, request["keep_scores"]))
    try:
        outcome = _ended_on_all(run_job(Job.model_validate(request["job"]), worker), 0)
        if dist.get_rank() == 0:
            folder = Path(request["out"])
            if outcome.predictions is not None:
                outcome.predictions.to_parquet(folder / "predictions.parquet", index=False)
            for name, table in outcome.further.items():
                table.to_parquet(folder / f"{FURTHER}{name}.parquet", index=False)
            if outcome.scores is not None:
                np.save(folder / "scores.npy", outcome.scores)
            (folder / "record.json").write_text(outcome.record.model_dump_json(), encoding="utf-8")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
    leave(0)
