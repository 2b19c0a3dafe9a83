"""The Ray executor: one actor per GPU, or per share of a node's cores, that keeps its backbone from job to job.

When an actor or node dies, its job runs again on another. Data, weights and plugins must be at the same path on every node,
or on a shared file system.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from vitbench.compute.environment import settle
from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import Job
from vitbench.engine.components import load_all
from vitbench.engine.executors.local import died, taken
from vitbench.engine.executors.ray_memory import MemoryNeeds
from vitbench.engine.executors.ray_nodes import Need, device_of, offered, one_each, several
from vitbench.engine.executors.workers import PATIENCE_S, Workers, work
from vitbench.engine.outcome import Outcome
from vitbench.engine.queue import JobQueue, Take
from vitbench.engine.schedule import replicas_of

TRIES = 2
# Ray starts workers at nice 15: beside two busy processes on two cores they get 4 % of one. Ours are like any other process.
NICENESS = "RAY_worker_niceness"
PATIENCE_WITH_NODES_S = 600.0  # the longest wait without any worker
START_S = 120.0  # a worker that has not started by then is not waited for: its node may be gone
LATE_S = 5.0  # and one that has not by then may ask for more memory than any node has free
CONNECT_S = 5.0
# Variables that workers on any node have of the driver's, by their beginnings.
_PASSED_ON = ("VITBENCH_", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class RayWorker:
    """The actor that runs jobs on the cluster."""

    def __init__(self, workers: Workers, cores: int) -> None:
        on_gpu = workers.device != "cpu"
        settle(None if on_gpu else cores)
        load_all(workers.plugins)
        self.plugins = workers.plugins
        self.worker = workers.worker()

    def work(self, job: Job) -> Outcome:
        """Run one job."""
        return work(job, self.worker, self.plugins)


@dataclass
class _Actor:
    """An actor, the resources it takes, and the node it runs on; `node` is empty until it has started."""

    need: Need
    actor: Any
    starting: Any
    node: str = ""
    made_s: float = field(default_factory=time.monotonic)


def execute(queue: JobQueue, workers: Workers) -> Generator[tuple[Job, Outcome], None, None]:
    """Run jobs on the cluster; first those that ask for several GPUs, each on a node that has them.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or no node has the resources that a job needs.
    """
    ray = _ray()
    with _joined(ray, workers):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        device = device_of(workers.device, nodes)
        alone = replace(workers, device=device, count=None, executor="local", address=None)
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
        for job in taken(queue):  # jobs that other runs have released meanwhile
            yield from together(job)


class RayPool:
    """Actors and the jobs they are running. A job goes to an actor that has enough memory for it."""

    def __init__(self, ray: Any, workers: Workers, needs: list[Need], memory: Callable[[Job], int]) -> None:
        self.ray, self.workers, self.memory = ray, workers, memory
        self.actor = ray.remote(RayWorker)
        self.idle: list[_Actor] = []
        self.starting = [self._new(need) for need in needs]
        self.running: dict[Any, tuple[_Actor, Job]] = {}
        self.tries: Counter[str] = Counter()
        self.retries: list[Job] = []
        self.alive_s = self.looked_s = time.monotonic()

    def _new(self, need: Need) -> _Actor:
        actor = self.actor.options(
            num_cpus=need.cores, num_gpus=need.gpus, memory=need.memory_bytes, scheduling_strategy="SPREAD"
        ).remote(self.workers, max(int(need.cores), 1))
        return _Actor(need, actor, actor.__ray_call__.remote(_node_id))

    def run(self, take: Take) -> Generator[tuple[Job, Outcome], None, None]:
        """Run jobs until none is left.

        Raises:
            UsageError: the cluster has had no room for any worker for ten minutes.
        """
        try:
            while self._give_out(take) or self.running or self.retries:
                if not self.running:
                    self._wait_for_workers()
                    continue
                ended, _ = self.ray.wait(list(self.running), timeout=PATIENCE_S)
                for reference in ended:
                    slot, job = self.running.pop(reference)
                    outcome = self._outcome(reference, slot, job)
                    if outcome is not None:
                        yield job, outcome
        finally:
            for slot in (*self.idle, *self.starting, *(slot for slot, _ in self.running.values())):
                with contextlib.suppress(Exception):  # the cluster is gone, and its actors with it
                    self.ray.kill(slot.actor)

    def _give_out(self, take: Take) -> bool:
        """Give a job to every idle actor, as far as there are any; return whether more may come."""
        self._collect_started()
        most_bytes, more, none_left = self._largest_bytes(), False, False
        for slot in list(self.idle):
            has_most = slot.need.memory_bytes >= most_bytes
            job = self._next(take, slot, has_most)
            more |= job is not None
            none_left |= job is None and has_most
            if isinstance(job, Job):
                self.idle.remove(slot)
                self.running[slot.actor.work.remote(job)] = (slot, job)
        return more or (bool(self.starting) and not none_left)

    def _largest_bytes(self) -> int:
        """The memory of the largest actors that have started or are expected to."""
        soon = [slot for slot in self.starting if time.monotonic() - slot.made_s < START_S]
        slots = [*self.idle, *(slot for slot, _ in self.running.values()), *soon]
        return max((slot.need.memory_bytes for slot in slots), default=0)

    def _next(self, take: Take, slot: _Actor, has_most: bool) -> Job | str | None:
        """A job that this actor has enough memory for. The largest actors also take jobs that are too large for any actor."""

        def fits(job: Job) -> bool:
            return has_most or self.memory(job) <= slot.need.memory_bytes

        for job in self.retries:
            if fits(job):
                self.retries.remove(job)
                return job
        return take(slot.node, fits)

    def _wait_for_workers(self) -> None:
        if self.idle:
            self.alive_s = time.monotonic()
        elif time.monotonic() - self.alive_s > PATIENCE_WITH_NODES_S:
            raise UsageError(
                "no worker could be scheduled on the Ray cluster for ten minutes: see `ray status`"
            )
        time.sleep(PATIENCE_S)

    def _collect_started(self) -> None:
        """Collect the actors that have started; replace those that died while starting."""
        if not self.starting:
            return
        self._shrink_requests()
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

    def _shrink_requests(self) -> None:
        """Replace actors that wait for more memory than any node has free by actors that ask for what a node has."""
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
        """The outcome of a job; None if its actor died and the job is to be retried."""
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(reference)
        except (errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError):
            self.starting.append(self._new(slot.need))
            self.tries[job.key] += 1
            if self.tries[job.key] < TRIES:
                self.retries.append(job)
                return None
            return died(job, "cpu")  # recorded by the driver, which may have no GPU
        except errors.RayTaskError as error:  # a full disk
            raise error.cause from error
        self.alive_s = time.monotonic()
        if isinstance(outcome, Outcome) and outcome.spoils_process:
            self.ray.kill(slot.actor)
            self.starting.append(self._new(slot.need))
        else:
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


def _check_listens(address: str | None) -> None:
    """Check that something listens at HOST:PORT; Ray itself would try for ten minutes.

    Raises:
        UsageError: nothing listens there.
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
    """Within the block this process is connected to the cluster, or to a new one on this machine."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    environment = {**kept, "VITBENCH_CACHE": str(workers.cache.resolve())}
    address = workers.address or os.environ.get("RAY_ADDRESS")
    _check_listens(address)
    if not address:
        os.environ.setdefault(NICENESS, "0")
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
