"""Jobs on a Ray cluster: an actor per GPU, or per share of a node's cores, that keeps its backbone from job to job.

An actor or node that dies costs nothing but the job it was at, which another one runs again. Data, weights and plugins must lie
at the same paths on every node, or on a file system that all share.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from vitbench.compute.environment import settle
from vitbench.errors import Problem, UsageError
from vitbench.executors.local import died
from vitbench.executors.workers import PATIENCE_S, Queue, Workers, work
from vitbench.outcomes import Outcome
from vitbench.plugins import load_all
from vitbench.records import Job
from vitbench.schedule import replicas_of

MEMORY_BYTES = (
    3 * 2**30
)  # of main memory for one worker: interpreter, torch, a backbone and its batches ahead
TRIES = 2
GPU, CPU = "GPU", "CPU"


class _Bench:
    """What runs on the cluster."""

    def __init__(self, workers: Workers, cores: int) -> None:
        on_gpu = workers.device != "cpu"
        settle(None if on_gpu else cores)
        load_all(workers.plugins)
        self.plugins = workers.plugins
        self.bench = workers.bench()

    def work(self, job: Job) -> Outcome:
        """One job to its outcome."""
        return work(job, self.bench, self.plugins)


@dataclass
class _Slot:
    """An actor, where it is, and whether it can be given a job; `place` is empty until it has started."""

    actor: Any
    starting: Any
    place: str = ""


def execute(queue: Queue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs on the cluster; first those that want several GPUs, each on a node that has them.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or it has not what a job needs.
    """
    ray = _ray()
    with _joined(ray, workers):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        device = _device(workers, nodes)
        alone = Workers(device, None, workers.cache, workers.plugins, workers.run)
        while isinstance(job := queue.take(fits=lambda job: replicas_of(job) > 1), Job):
            crew = _Crew(ray, alone, _several(device, nodes, replicas_of(job)))
            yield from crew.run(_Only(job))
        yield from _Crew(ray, alone, _one_each(device, nodes, workers.count)).run(queue)


class _Only:
    """A queue of one job."""

    def __init__(self, job: Job) -> None:
        self._left = [job]

    def take(self, place: str = "", fits: Callable[[Job], bool] | None = None) -> Job | None:
        """The job, once."""
        del place, fits
        return self._left.pop() if self._left else None


class _Crew:
    """Actors of one shape, and what they are at."""

    def __init__(self, ray: Any, workers: Workers, needs: list[dict[str, float]]) -> None:
        self.ray, self.workers = ray, workers
        self.actor = ray.remote(_Bench)
        self.idle: list[_Slot] = []
        self.starting = [self._new(need) for need in needs]
        self.needs = needs
        self.running: dict[Any, tuple[_Slot, Job]] = {}
        self.tries: Counter[str] = Counter()
        self.again: list[Job] = []

    def _new(self, need: dict[str, float]) -> _Slot:
        actor = self.actor.options(
            num_cpus=need[CPU], num_gpus=need[GPU], memory=need["memory"], scheduling_strategy="SPREAD"
        ).remote(self.workers, max(int(need[CPU]), 1))
        return _Slot(actor, actor.__ray_call__.remote(_node_id))

    def run(self, queue: Queue) -> Generator[tuple[Job, Outcome], None, None]:
        """Give out jobs until none is left."""
        left = True
        try:
            while left or self.running or self.again:
                self._welcome()
                while self.idle and (left or self.again):
                    job = self.again.pop() if self.again else queue.take(self.idle[-1].place)
                    if isinstance(job, str):
                        break
                    if job is None:
                        left = False
                    else:
                        slot = self.idle.pop()
                        self.running[slot.actor.work.remote(job)] = (slot, job)
                if not self.running:
                    time.sleep(PATIENCE_S if left or self.again else 0)
                    continue
                ended, _ = self.ray.wait(list(self.running), timeout=PATIENCE_S)
                for reference in ended:
                    slot, job = self.running.pop(reference)
                    outcome = self._outcome(reference, slot, job)
                    if outcome is not None:
                        yield job, outcome
        finally:
            for slot in (*self.idle, *self.starting, *(slot for slot, _ in self.running.values())):
                self.ray.kill(slot.actor)

    def _welcome(self) -> None:
        """Actors that have started meanwhile; those that died of it are made anew."""
        waiting = self.starting
        ready, _ = (
            self.ray.wait([slot.starting for slot in waiting], num_returns=len(waiting), timeout=0)
            if waiting
            else ([], [])
        )
        for slot in [slot for slot in waiting if slot.starting in ready]:
            self.starting.remove(slot)
            try:
                slot.place = self.ray.get(slot.starting)
            except self.ray.exceptions.RayActorError as error:
                if isinstance(error.__cause__, Exception):
                    raise UsageError(f"a worker on the cluster cannot start: {error.__cause__}") from error
                self.starting.append(self._new(self.needs[0]))
            else:
                self.idle.append(slot)

    def _outcome(self, reference: Any, slot: _Slot, job: Job) -> Outcome | None:
        """What a job came to; None if its actor died and it is to be run again."""
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(reference)
        except (errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError):
            self.starting.append(self._new(self.needs[0]))
            self.tries[job.key] += 1
            if self.tries[job.key] < TRIES:
                self.again.append(job)
                return None
            return died(job, "cpu")  # told by the driver, who may have no GPU
        except errors.RayTaskError as error:  # a full disk, as elsewhere
            raise error.cause from error
        self.idle.append(slot)
        return outcome


def _node_id(_bench: Any) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UsageError(
            Problem("the executor `ray` needs Ray", next_step="pip install 'vitbench[ray]'")
        ) from None
    return ray


@contextlib.contextmanager
def _joined(ray: Any, workers: Workers) -> Iterator[None]:
    """Within the block this process belongs to the cluster, or to one of its own on this machine."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("VITBENCH_")}
    environment = {**kept, "VITBENCH_CACHE": str(workers.cache.resolve())}
    address = workers.address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=None if address else False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UsageError(
            Problem(
                f"there is no Ray cluster at {address}: {first}",
                next_step="ray status --address " + str(address),
            )
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _device(workers: Workers, nodes: list[Any]) -> str:
    """`auto` is a GPU where a node has one; an actor sees its own as the only one."""
    has_gpu = any(node["Resources"].get(GPU, 0) >= 1 for node in nodes)
    if workers.device == "auto":
        return "cuda" if has_gpu else "cpu"
    if workers.device != "cpu" and not has_gpu:
        raise UsageError(f"--device {workers.device}: no node of the Ray cluster has a GPU")
    return workers.device.partition(":")[0]


def _one_each(device: str, nodes: list[Any], count: int | None) -> list[dict[str, float]]:
    """What each actor needs: a GPU with its share of the cores, or cores alone, one actor a node unless more are asked for."""
    needs = []
    per_node = -(-count // len(nodes)) if count else 1
    for node in nodes:
        cores = node["Resources"].get(CPU, 0.0)
        # A node that was given no cores is there to lead.
        number = int(node["Resources"].get(GPU, 0)) if device == "cuda" else min(per_node, int(cores))
        share = float(max(cores // max(number, 1), 0))
        needs += [_need(share, 1.0 if device == "cuda" else 0.0, node)] * number
    return needs[:count] if count else needs


def _several(device: str, nodes: list[Any], processes: int) -> list[dict[str, float]]:
    """An actor for a job that wants so many GPUs, or on CPUs a whole node."""
    gpus = float(processes) if device == "cuda" else 0.0
    fitting = [node for node in nodes if node["Resources"].get(GPU, 0) >= gpus]
    if not fitting:
        most = max(node["Resources"].get(GPU, 0) for node in nodes)
        raise UsageError(
            f"a job asks for {processes} GPUs, and no node of the cluster has more than {most:.0f}: set replicas"
        )
    node = max(fitting, key=lambda node: node["Resources"].get(CPU, 0))
    return [_need(float(max(node["Resources"].get(CPU, 0) // 1, 0)), gpus, node)]


def _need(cores: float, gpus: float, node: Any) -> dict[str, float]:
    return {CPU: cores, GPU: gpus, "memory": min(MEMORY_BYTES, node["Resources"].get("memory", 0) // 2)}
