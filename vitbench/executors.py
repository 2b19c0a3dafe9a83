"""Maps run_job over jobs: in this process, or in one worker process per device. Records are kept by whoever calls."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import typing
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vitbench import forks, replicas
from vitbench.compute.environment import choose_device, settle
from vitbench.errors import VitbenchError
from vitbench.plugins import load_all
from vitbench.records import Job
from vitbench.runner import Outcome, failed, run_job
from vitbench.workbench import Workbench

Report = Callable[[str, int, int], None]
GONE = (BrokenProcessPool, EOFError, ConnectionError)  # the worker died, or what it is forked off
PATIENCE_S = 0.2  # between looks at what other runs hold


@dataclass(frozen=True)
class Workers:
    """Where jobs run. None of it is part of a job: a score does not depend on it."""

    device: str
    count: int
    cache: Path
    plugins: tuple[str, ...] = ()
    checkpoints: Path | None = None

    @classmethod
    def choose(
        cls, device: str, count: int | None, cache: Path, plugins: Sequence[str], checkpoints: Path | None
    ) -> Workers:
        """One worker per GPU; on a CPU one, with all cores, unless asked for more."""
        chosen = choose_device(device)
        if count is None:
            count = torch.cuda.device_count() if chosen == "cuda" else 1
        return cls(chosen, count, cache, tuple(plugins), checkpoints)

    def device_of(self, worker: int) -> str:
        """The device that a worker owns."""
        if self.device == "cuda" and self.count > 1:
            return f"cuda:{worker % torch.cuda.device_count()}"
        return self.device


class Queue(typing.Protocol):
    """Gives out jobs to whoever is free."""

    def take(self) -> Job | Literal["later"] | None:
        """The next job; `later` while other runs hold all that is left; None when nothing is left. Never waits."""
        ...


def execute(queue: Queue, workers: Workers, report: Report) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs and give each with its outcome as it ends; a job is taken only when a worker is free for it."""
    if replicas.count() > 1:
        yield from replicas.lead(_taken(queue), workers, report)
    elif workers.count == 1:
        yield from _here(queue, workers, report)
    else:
        yield from _in_processes(queue, workers)


def _here(queue: Queue, workers: Workers, report: Report) -> Generator[tuple[Job, Outcome], None, None]:
    settle(None)
    bench = Workbench(workers.device, workers.cache, workers.checkpoints, report)
    for job in _taken(queue):
        yield job, run_job(job, bench)


def _taken(queue: Queue) -> Iterator[Job]:
    """Jobs one after another, waiting for those that other runs hold."""
    while (job := queue.take()) is not None:
        if isinstance(job, str):
            time.sleep(PATIENCE_S)
        else:
            yield job


def _in_processes(queue: Queue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """One process per worker. A job that was running when a worker died is run once more, alone, to find out which it was."""
    suspects: list[Job] = []
    running: dict[Future[Outcome], Job] = {}
    left = True
    with _pool(workers, workers.count) as pool:
        while running or (left and not suspects):
            while left and not suspects and len(running) < workers.count:
                job = queue.take()
                if isinstance(job, str):
                    break
                left = job is not None
                if job is not None and not _submit(pool, job, running):
                    suspects.append(job)
            if not running:
                time.sleep(PATIENCE_S if left and not suspects else 0)
                continue
            for future in wait(running, timeout=PATIENCE_S, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    outcome = future.result()
                except GONE:
                    suspects.append(job)
                else:
                    yield job, outcome
    if suspects:
        yield from _one_at_a_time(suspects, workers)
        yield from _in_processes(queue, workers)


def _submit(pool: ProcessPoolExecutor, job: Job, running: dict[Future[Outcome], Job]) -> bool:
    try:
        running[pool.submit(_run_in_worker, job)] = job
    except GONE:
        return False
    return True


def _one_at_a_time(jobs: list[Job], workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    for job in jobs:
        with _pool(workers, 1) as pool:
            try:
                outcome = pool.submit(_run_in_worker, job).result()
            except GONE:
                outcome = _died(job, workers)
        yield job, outcome


def _died(job: Job, workers: Workers) -> Outcome:
    error = VitbenchError("its worker process died twice: out of memory, or killed from outside")
    return Outcome(failed(job, workers.device, error))


@contextlib.contextmanager
def _pool(workers: Workers, count: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; an interrupt of the driver ends them at once."""
    context = forks.context()
    turns = context.Queue()
    for worker in range(count):
        turns.put(worker)
    threads = max((os.cpu_count() or 1) // workers.count, 1)
    pool = ProcessPoolExecutor(count, context, _start, (workers, threads, turns, dict(os.environ)))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_bench: list[Workbench] = []


def _end_with_driver() -> None:
    """No worker goes on without its driver, however that ended."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _start(workers: Workers, threads: int, turns: Any, environment: dict[str, str]) -> None:
    os.environ.clear()  # the server's is that of the driver's first run
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    settle(threads)
    load_all(workers.plugins)
    _bench.append(Workbench(workers.device_of(turns.get()), workers.cache, workers.checkpoints))


def _run_in_worker(job: Job) -> Outcome:
    return run_job(job, _bench[0])
