"""Assigning the cores, GPUs and memory of Ray nodes to actors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from vitbench.core.errors import UsageError

GPU, CPU = "GPU", "CPU"


@dataclass(frozen=True)
class Need:
    """The resources that one actor takes of a node. Its jobs may need up to this much memory."""

    cores: float
    gpus: float
    memory_bytes: int


def device_of(wanted: str, nodes: list[Any]) -> str:
    """The device of actors: for `auto`, a GPU if any node has one. An actor sees its own GPU as the only one."""
    has_gpu = any(node["Resources"].get(GPU, 0) >= 1 for node in nodes)
    if wanted == "auto":
        return "cuda" if has_gpu else "cpu"
    if wanted != "cpu" and not has_gpu:
        raise UsageError(f"--device {wanted}: no node of the Ray cluster has a GPU")
    return wanted.partition(":")[0]


def one_each(device: str, nodes: list[Any], count: int | None) -> list[Need]:
    """The resources of each actor: a GPU with a share of its node, or on CPUs one actor per node unless `count` asks for more.

    Raises:
        UsageError: no node has a core for an actor.
    """
    needs = []
    per_node = -(-count // len(nodes)) if count else 1
    for node in nodes:
        cores = int(node["Resources"].get(CPU, 0))
        # A node without cores is a head node only.
        number = int(node["Resources"].get(GPU, 0)) if device == "cuda" else min(per_node, cores)
        needs += [_share(node, number, 1.0 if device == "cuda" else 0.0)] * number
    if not needs:
        raise UsageError("no node of the Ray cluster has a free CPU core for a worker: see `ray status`")
    return needs[:count] if count else needs


def several(device: str, nodes: list[Any], processes: int) -> list[Need]:
    """The resources of one actor for a job of several processes: that many GPUs of one node, or a whole node of CPUs.

    Raises:
        UsageError: no node has as many GPUs.
    """
    gpus = float(processes) if device == "cuda" else 0.0
    fitting = [
        node for node in nodes if node["Resources"].get(GPU, 0) >= gpus and node["Resources"].get(CPU, 0)
    ]
    if not fitting:
        most = max(node["Resources"].get(GPU, 0) for node in nodes)
        raise UsageError(
            f"a job asks for {processes} GPUs, and no node has more than {most:.0f}: set `replicas` to at most that"
        )
    node = min(
        fitting, key=lambda node: (bool(gpus) * node["Resources"].get(GPU, 0), -node["Resources"][CPU])
    )
    return [_share(node, 1, gpus)]


def offered(need: Need, nodes: list[Any], taken: Iterable[tuple[str, Need]]) -> tuple[str, Need] | None:
    """The node with most of an actor's memory free beside the actors in `taken`, and how much; None if no node has room.

    A node that replaces a lost one may have a little less memory.
    """
    offers = []
    for node in nodes:
        there = [other for node_id, other in taken if node_id == node["NodeID"]]
        cores = node["Resources"].get(CPU, 0) - sum(other.cores for other in there)
        gpus = node["Resources"].get(GPU, 0) - sum(other.gpus for other in there)
        memory = int(node["Resources"].get("memory", 0) - sum(other.memory_bytes for other in there))
        if cores >= need.cores and gpus >= need.gpus and memory > 0:
            offers.append((min(memory, need.memory_bytes), node["NodeID"]))
    if not offers:
        return None
    memory, node_id = max(offers)
    return node_id, replace(need, memory_bytes=memory)


def _share(node: Any, number: int, gpus: float) -> Need:
    """An equal share of a node's cores and memory."""
    resources, parts = node["Resources"], max(number, 1)
    return Need(float(resources.get(CPU, 0) // parts), gpus, int(resources.get("memory", 0) // parts))
