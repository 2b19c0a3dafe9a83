"""The local executor: jobs in this process, or in one worker process per device."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vitbench.compute.environment import cores, settle
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job
from vitbench.engine.components import load_all
from vitbench.engine.executors import fork_server
from vitbench.engine.executors.workers import PATIENCE_S, Workers, work
from vitbench.engine.outcome import Outcome, failed
from vitbench.engine.queue import JobList, JobQueue
from vitbench.engine.worker import Worker
from vitbench.store.heartbeat import was_abandoned

GONE = (BrokenProcessPool, EOFError, ConnectionError)  # the worker or the fork server died


def here(queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs one after another in this process. A job that has killed a process before gets a process of its own."""
    settle(None)
    worker = workers.worker()
    for job in taken(queue):
        if workers.run is not None and was_abandoned(workers.run / ".running", job.key):
            yield from _one_at_a_time([job], workers)
            continue
        outcome = work(job, worker, workers.plugins)
        yield job, outcome
        if outcome.spoils_process:  # this one
            yield from in_processes(queue, workers)


def taken(queue: JobQueue) -> Iterator[Job]:
    """Jobs one after another; waits for those that other runs hold."""
    while (job := queue.take()) is not None:
        if isinstance(job, str):
            time.sleep(PATIENCE_S)
        else:
            yield job


def in_processes(queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs in one process per worker. Jobs that need all devices run first, one by one."""
    worker = workers.worker()
    while isinstance(job := queue.several.take(), Job):
        yield job, work(job, worker, workers.plugins)
    while suspects := (yield from _in_pool(queue.single, workers)):
        yield from _one_at_a_time(suspects, workers)
    for job in taken(queue):  # jobs that other runs have released meanwhile
        yield from _one_at_a_time([job], workers)


def _in_pool(jobs: JobList, workers: Workers) -> Generator[tuple[Job, Outcome], None, list[Job]]:
    """Run jobs until none is left or a worker dies; return the jobs whose workers died, to be retried one by one."""
    suspects: list[Job] = []
    running: dict[Future[Outcome], tuple[_Slot, Job]] = {}
    left = True
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(_Slot(workers, index)) for index in range(workers.count or 1)]
        while running or (left and not suspects):
            while left and not suspects and idle:
                job = jobs.take()
                if isinstance(job, str):
                    break
                left = job is not None
                if job is not None:
                    slot = idle.pop(0)
                    running[slot.submit(job)] = (slot, job)
            if not running:
                time.sleep(PATIENCE_S if left and not suspects else 0)
                continue
            for future in wait(running, timeout=PATIENCE_S, return_when=FIRST_COMPLETED).done:
                slot, job = running.pop(future)
                idle.append(slot)
                try:
                    outcome = future.result()
                except GONE:
                    slot.end()
                    suspects.append(job)
                else:
                    if outcome.spoils_process:
                        slot.end()
                    yield job, outcome
    return suspects


class _Slot(contextlib.AbstractContextManager["_Slot"]):
    """The place of one worker process: a pool of its own, so that a process can end without the others."""

    def __init__(self, workers: Workers, index: int) -> None:
        self.workers, self.index = workers, index
        self.stack = contextlib.ExitStack()
        self.pool: ProcessPoolExecutor | None = None

    def submit(self, job: Job) -> Future[Outcome]:
        """Run a job in the worker process, which is started if there is none."""
        if self.pool is None:
            self.pool = self.stack.enter_context(_pool(self.workers, 1, self.index))
        try:
            return self.pool.submit(_run_in_worker, job)
        except GONE as error:
            future: Future[Outcome] = Future()
            future.set_exception(error)
            return future

    def end(self) -> None:
        """End the worker process, which may be beyond ending by itself."""
        for process in list((getattr(self.pool, "_processes", None) or {}).values()):
            process.kill()
        self.pool = None
        self.stack.close()

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)


def _one_at_a_time(jobs: list[Job], workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    for job in jobs:
        with _pool(workers, 1) as pool:
            try:
                outcome = pool.submit(_run_in_worker, job).result()
            except GONE:
                outcome = died(job, workers.device)
        yield job, outcome


def died(job: Job, device: str) -> Outcome:
    """The outcome of a job that has killed two workers."""
    error = VitbenchError("its worker process died twice: out of memory, or killed")
    return Outcome(failed(job, device, error))


@contextlib.contextmanager
def _pool(workers: Workers, count: int, first: int = 0) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many worker processes, from the index `first` on. An interrupt of the driver terminates them."""
    context = fork_server.context()
    turns = context.Queue()
    for worker in range(first, first + count):
        turns.put(worker)
    threads = _threads(workers.count or 1)
    pool = ProcessPoolExecutor(count, context, _start, (workers, threads, turns, dict(os.environ)))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _threads(workers: int) -> int:
    """The threads of one of so many workers: its share of the cores, and no more than the user allows a process."""
    share, own = max(cores() // workers, 1), os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(own)) if own.isdigit() and int(own) else share


_bench: list[Worker] = []
_plugins: list[str] = []


def _end_with_driver() -> None:
    """End this worker when its driver ends, however that happens."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _start(workers: Workers, threads: int, turns: Any, environment: dict[str, str]) -> None:
    os.environ.clear()  # the server's environment is that of the driver's first run
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles interrupts
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    settle(threads)
    load_all(workers.plugins)
    _plugins.extend(workers.plugins)
    _bench.append(workers.worker(turns.get()))


def _run_in_worker(job: Job) -> Outcome:
    return work(job, _bench[0], _plugins)
