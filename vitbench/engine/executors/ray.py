"""Jobs on a Ray cluster: an actor per GPU, or per share of a node's cores, that keeps its backbone from job to job.

An actor or node that dies costs nothing but the job it was at, which another one runs again. Data, weights and plugins must lie
at the same paths on every node, or on a file system that all share.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from vitbench.compute.environment import settle
from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import Job
from vitbench.core.plugins import load_all
from vitbench.engine.executors.local import died, taken
from vitbench.engine.executors.ray_memory import MemoryNeeds
from vitbench.engine.executors.ray_nodes import Need, device_of, offered, one_each, several
from vitbench.engine.executors.workers import PATIENCE_S, Workers, work
from vitbench.engine.outcome import Outcome
from vitbench.engine.queue import JobQueue, Take
from vitbench.engine.schedule import replicas_of

TRIES = 2
PATIENCE_WITH_NODES_S = 600.0  # how long a cluster may leave us without any worker
START_S = 120.0  # a worker that has not started by then is not waited for: its node may be gone
LATE_S = 5.0  # and one that has not by then may ask for more than any node has left
CONNECT_S = 5.0


class RayWorker:
    """What runs on the cluster."""

    def __init__(self, workers: Workers, cores: int) -> None:
        on_gpu = workers.device != "cpu"
        settle(None if on_gpu else cores)
        load_all(workers.plugins)
        self.plugins = workers.plugins
        self.worker = workers.worker()

    def work(self, job: Job) -> Outcome:
        """One job to its outcome."""
        return work(job, self.worker, self.plugins)


@dataclass
class _Actor:
    """An actor, what it takes, and the node it is on; `node` is empty until it has started."""

    need: Need
    actor: Any
    starting: Any
    node: str = ""
    made_s: float = field(default_factory=time.monotonic)


def execute(queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs on the cluster; first those that want several GPUs, each on a node that has them.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or it has not what a job needs.
    """
    ray = _ray()
    with _joined(ray, workers):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        device = device_of(workers.device, nodes)
        alone = Workers(device, None, workers.cache, workers.plugins, workers.run)
        memory = MemoryNeeds()

        def together(job: Job) -> Generator[tuple[Job, Outcome], None, None]:
            needs = several(device, nodes, replicas_of(job))
            once = [job]
            pool = RayPool(ray, alone, needs, lambda _job: 0)
            yield from pool.run(lambda _node, _fits: once.pop() if once else None)

        while isinstance(job := queue.several.take(), Job):
            yield from together(job)
        needs = one_each(device, nodes, workers.count)
        yield from RayPool(ray, alone, needs, memory).run(queue.single.take)
        for job in taken(queue):  # what other runs held meanwhile, and have let go of
            yield from together(job)


class RayPool:
    """Actors, and what they are at. A job goes to an actor that has the memory for it."""

    def __init__(self, ray: Any, workers: Workers, needs: list[Need], memory: Callable[[Job], int]) -> None:
        self.ray, self.workers, self.memory = ray, workers, memory
        self.actor = ray.remote(RayWorker)
        self.idle: list[_Actor] = []
        self.starting = [self._new(need) for need in needs]
        self.running: dict[Any, tuple[_Actor, Job]] = {}
        self.tries: Counter[str] = Counter()
        self.again: list[Job] = []
        self.alive_s = self.looked_s = time.monotonic()

    def _new(self, need: Need) -> _Actor:
        actor = self.actor.options(
            num_cpus=need.cores, num_gpus=need.gpus, memory=need.memory_bytes, scheduling_strategy="SPREAD"
        ).remote(self.workers, max(int(need.cores), 1))
        return _Actor(need, actor, actor.__ray_call__.remote(_node_id))

    def run(self, take: Take) -> Generator[tuple[Job, Outcome], None, None]:
        """Give out jobs until none is left.

        Raises:
            UsageError: the cluster has had no room for any worker for ten minutes.
        """
        try:
            while self._give_out(take) or self.running or self.again:
                if not self.running:
                    self._be_patient()
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

    def _give_out(self, take: Take) -> bool:
        """A job to every idle actor that there is one for; whether more may come."""
        self._welcome()
        most_bytes, more, none_left = self._most_bytes(), False, False
        for slot in list(self.idle):
            has_most = slot.need.memory_bytes >= most_bytes
            job = self._next(take, slot, has_most)
            more |= job is not None
            none_left |= job is None and has_most
            if isinstance(job, Job):
                self.idle.remove(slot)
                self.running[slot.actor.work.remote(job)] = (slot, job)
        return more or (bool(self.starting) and not none_left)

    def _most_bytes(self) -> int:
        """Memory of the largest actors that are there or may soon be."""
        soon = [slot for slot in self.starting if time.monotonic() - slot.made_s < START_S]
        slots = [*self.idle, *(slot for slot, _ in self.running.values()), *soon]
        return max((slot.need.memory_bytes for slot in slots), default=0)

    def _next(self, take: Take, slot: _Actor, has_most: bool) -> Job | str | None:
        """A job that this actor has the memory for; the largest actors take what is too large for any, and it may fail."""

        def fits(job: Job) -> bool:
            return has_most or self.memory(job) <= slot.need.memory_bytes

        for job in self.again:
            if fits(job):
                self.again.remove(job)
                return job
        return take(slot.node, fits)

    def _be_patient(self) -> None:
        if self.idle:
            self.alive_s = time.monotonic()
        elif time.monotonic() - self.alive_s > PATIENCE_WITH_NODES_S:
            raise UsageError("the Ray cluster has had no room for a worker for ten minutes: see `ray status`")
        time.sleep(PATIENCE_S)

    def _welcome(self) -> None:
        """Actors that have started meanwhile; those that died of it are made anew."""
        if not self.starting:
            return
        self._lower_demands()
        waiting = {slot.starting: slot for slot in self.starting}
        for reference in self.ray.wait(list(waiting), num_returns=len(waiting), timeout=0)[0]:
            slot = waiting[reference]
            self.starting.remove(slot)
            try:
                slot.node = self.ray.get(reference)
            except self.ray.exceptions.RayActorError as error:
                if isinstance(error.__cause__, Exception):
                    raise UsageError(f"a worker on the cluster cannot start: {error.__cause__}") from error
                self.starting.append(self._new(slot.need))
            else:
                self.idle.append(slot)

    def _lower_demands(self) -> None:
        """Actors that wait for more memory than any node has left are asked for anew, with as much as one has."""
        now = time.monotonic()
        late = [slot for slot in self.starting if now - slot.made_s > LATE_S]
        if not late or now - self.looked_s < LATE_S:
            return
        self.looked_s = now
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        taken = [
            (slot.node, slot.need) for slot in (*self.idle, *(slot for slot, _ in self.running.values()))
        ]
        for slot in late:
            offer = offered(slot.need, nodes, taken)
            if offer is None:
                continue
            taken.append(offer)
            if offer[1] != slot.need:
                self.starting.remove(slot)
                self.ray.kill(slot.actor)
                self.starting.append(self._new(offer[1]))

    def _outcome(self, reference: Any, slot: _Actor, job: Job) -> Outcome | None:
        """What a job came to; None if its actor died and it is to be run again."""
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(reference)
        except (errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError):
            self.starting.append(self._new(slot.need))
            self.tries[job.key] += 1
            if self.tries[job.key] < TRIES:
                self.again.append(job)
                return None
            return died(job, "cpu")  # told by the driver, who may have no GPU
        except errors.RayTaskError as error:  # a full disk, as elsewhere
            raise error.cause from error
        self.idle.append(slot)
        self.alive_s = time.monotonic()
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


def _answers(address: str | None) -> None:
    """See that somebody listens at HOST:PORT: Ray itself would try for ten minutes.

    Raises:
        UsageError: nobody does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (colon and port.isascii() and port.isdigit()):
        return  # `auto`, `local`, or Ray's own choice
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        step = f"ray status --address {shlex.quote(str(address))}"
        raise UsageError(Problem(f"there is no Ray cluster at {address}: {error}", next_step=step)) from error


@contextlib.contextmanager
def _joined(ray: Any, workers: Workers) -> Iterator[None]:
    """Within the block this process belongs to the cluster, or to one of its own on this machine."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("VITBENCH_")}
    environment = {**kept, "VITBENCH_CACHE": str(workers.cache.resolve())}
    address = workers.address or os.environ.get("RAY_ADDRESS")
    _answers(address)
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
                next_step=f"ray status --address {shlex.quote(str(address))}",
            )
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
