"""The choice of executor: torchrun's ranks, Ray, this process, or worker processes."""

from __future__ import annotations

from collections.abc import Generator

from vitbench.core.job import Job
from vitbench.engine.executors import local, torchrun
from vitbench.engine.executors.workers import Workers
from vitbench.engine.outcome import Outcome
from vitbench.engine.queue import JobQueue


def execute(queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs and yield each with its outcome. A job is taken from the queue only when a worker is free."""
    if torchrun.world_size() > 1:
        yield from torchrun.lead(local.taken(queue), workers.worker())
    elif workers.executor == "ray":
        from vitbench.engine.executors import ray as cluster

        yield from cluster.execute(queue, workers)
    elif workers.count == 1:
        yield from local.here(queue, workers)
    else:
        yield from local.in_processes(queue, workers)
