"""Maps run_job over jobs: here, in one process per device, or on a Ray cluster. Records are kept by whoever calls."""

from __future__ import annotations

from collections.abc import Generator

from vitbench import replicas
from vitbench.executors import local
from vitbench.executors.workers import Queue, Workers
from vitbench.outcomes import Outcome
from vitbench.records import Job

__all__ = ["Queue", "Workers", "execute"]


def execute(queue: Queue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs and give each with its outcome as it ends; a job is taken only when a worker is free for it."""
    if replicas.count() > 1:
        yield from replicas.lead(local.taken(queue), workers.bench())
    elif workers.executor == "ray":
        import vitbench.executors.cluster as cluster

        yield from cluster.execute(queue, workers)
    elif workers.count == 1:
        yield from local.here(queue, workers)
    else:
        yield from local.in_processes(queue, workers)
