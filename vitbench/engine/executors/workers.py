"""The workers of a run: their device, number, cache and run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from vitbench.compute.environment import choose_device
from vitbench.core.job import Job
from vitbench.engine.executors.torchrun import run_in_processes
from vitbench.engine.job import run_job
from vitbench.engine.outcome import Outcome
from vitbench.engine.schedule import replicas_of
from vitbench.engine.worker import Worker

PATIENCE_S = 0.2  # between two looks at the jobs that other runs hold


@dataclass(frozen=True)
class Workers:
    """The workers that jobs run on. No score depends on them."""

    device: str
    count: int | None
    cache: Path
    plugins: tuple[str, ...] = ()
    run: Path | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    keep_scores: bool = False

    @classmethod
    def choose(
        cls,
        device: str,
        count: int | None,
        cache: Path,
        *,
        plugins: Sequence[str] = (),
        run: Path | None = None,
        executor: Literal["local", "ray"] = "local",
        address: str | None = None,
    ) -> Workers:
        """One worker per GPU, or one with all cores on a CPU, unless `count` is given. Ray is asked for its devices later."""
        if executor == "ray":
            return cls(device, count, cache, tuple(plugins), run, executor, address)
        chosen = choose_device(device)
        if count is None:
            count = torch.cuda.device_count() if chosen == "cuda" else 1
        return cls(chosen, count, cache, tuple(plugins), run)

    def device_of(self, worker: int) -> str:
        """The device that a worker owns."""
        if self.device == "cuda" and (self.count or 1) > 1:
            return f"cuda:{worker % torch.cuda.device_count()}"
        return self.device

    def worker(self, index: int = 0) -> Worker:
        """A new worker by its index."""
        return Worker(self.device_of(index), self.cache, self.run, self.keep_scores)


def work(job: Job, worker: Worker, plugins: Sequence[str]) -> Outcome:
    """Run a job in this process, or in several where its protocol asks for them."""
    count = replicas_of(job)
    return run_in_processes(job, worker, count, plugins) if count > 1 else run_job(job, worker)
