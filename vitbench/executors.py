"""Maps run_job over jobs: in this process, or in one worker process per device. Records are kept by whoever calls."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitbench.compute.environment import choose_device, settle
from vitbench.errors import VitbenchError
from vitbench.plugins import load_all
from vitbench.records import Job
from vitbench.runner import Outcome, failed, run_job
from vitbench.workbench import Workbench

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Workers:
    """Where jobs run. None of it is part of a job: a score does not depend on it."""

    device: str
    count: int
    cache: Path
    plugins: tuple[str, ...] = ()

    @classmethod
    def choose(cls, device: str, count: int | None, cache: Path, plugins: Sequence[str]) -> Workers:
        """One worker per GPU; on a CPU one, with all cores, unless asked for more."""
        chosen = choose_device(device)
        if count is None:
            count = torch.cuda.device_count() if chosen == "cuda" else 1
        return cls(chosen, count, cache, tuple(plugins))

    def device_of(self, worker: int) -> str:
        """The device that a worker owns."""
        if self.device == "cuda" and self.count > 1:
            return f"cuda:{worker % torch.cuda.device_count()}"
        return self.device


def execute(jobs: Iterator[Job], workers: Workers, report: Report) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs and give each with its outcome as it ends. `jobs` is asked for the next one only when a worker is free."""
    if workers.count == 1:
        yield from _here(jobs, workers, report)
    else:
        yield from _in_processes(jobs, workers)


def _here(jobs: Iterator[Job], workers: Workers, report: Report) -> Iterator[tuple[Job, Outcome]]:
    settle(None)
    bench = Workbench(workers.device, workers.cache, report)
    for job in jobs:
        yield job, run_job(job, bench)


def _in_processes(jobs: Iterator[Job], workers: Workers) -> Iterator[tuple[Job, Outcome]]:
    """One process per worker. A job that was running when a worker died is run once more, alone, to find out which it was."""
    suspects: deque[Job] = deque()
    with _pool(workers, workers.count) as pool:
        running: dict[Future[Outcome], Job] = {}
        broken = False
        while True:
            while not broken and len(running) < workers.count and (job := next(jobs, None)):
                running[pool.submit(_run_in_worker, job)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    suspects.append(job)
                    broken = True
    if suspects:
        yield from _one_at_a_time(suspects, workers)
        yield from _in_processes(jobs, workers)


def _one_at_a_time(jobs: deque[Job], workers: Workers) -> Iterator[tuple[Job, Outcome]]:
    for job in jobs:
        with _pool(workers, 1) as pool:
            try:
                yield job, pool.submit(_run_in_worker, job).result()
            except BrokenProcessPool:
                yield job, _died(job, workers)


def _died(job: Job, workers: Workers) -> Outcome:
    error = VitbenchError("its worker process died twice: out of memory, or killed from outside")
    return Outcome(failed(job, workers.device, error))


@contextlib.contextmanager
def _pool(workers: Workers, count: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned workers; an interrupt of the driver ends them at once."""
    context = multiprocessing.get_context("spawn")
    turns = context.Queue()
    for worker in range(count):
        turns.put(worker)
    threads = max((os.cpu_count() or 1) // workers.count, 1)
    pool = ProcessPoolExecutor(count, context, _start, (workers, threads, turns))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_bench: list[Workbench] = []


def _start(workers: Workers, threads: int, turns: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    settle(threads)
    load_all(workers.plugins)
    _bench.append(Workbench(workers.device_of(turns.get()), workers.cache))


def _run_in_worker(job: Job) -> Outcome:
    return run_job(job, _bench[0])
