"""Collective operations for the processes of one training run; with a single process they do nothing.

Every rank takes part in every operation in the same order, also one that has run out of memory (see `gradient_sum`), so that no
rank waits for one that has given up. Numbers and plain data are exchanged through the CPU, without synchronising the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

BUCKET_BYTES = 25 * 2**20  # per all-reduce: the default of torch's DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """One of the processes of a training run."""

    rank: int = 0
    world_size: int = 1


ALONE = Process()


def this_process() -> Process:
    """Return this process: the only one without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size())
    return ALONE


def minimum(value: int) -> int:
    """Return the minimum of all ranks' values; every rank must call this."""
    return minima([value])[0]


def minima(values: Sequence[int]) -> list[int]:
    """Return the minimum of all ranks' first values, of their second ones, and so on; every rank must call this."""
    if this_process().world_size == 1:
        return list(values)
    box = torch.tensor(values)
    dist.all_reduce(box, dist.ReduceOp.MIN)
    return [int(value) for value in box.tolist()]


def broadcast(value: T) -> T:
    """Return rank 0's value on every rank, so that all ranks make the same decisions."""
    if this_process().world_size == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    found: T = box[0]
    return found


def local_rows(tensor: Tensor) -> Tensor:
    """Return this rank's rows of a global batch."""
    process = this_process()
    return tensor.tensor_split(process.world_size)[process.rank]


@torch.no_grad()
def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Copy rank 0's values into these tensors on every rank."""
    if this_process().world_size > 1:
        for tensor in tensors:
            whole = tensor.contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)


@torch.no_grad()
def all_reduce_sum(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks; small tensors share an all-reduce."""
    pending = []
    for bucket in buckets(tensors):
        flat = _flatten_dense_tensors(bucket)
        pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        work.wait()
        for tensor, part in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            tensor.copy_(part)


def buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Divide tensors, in their order, into groups of one dtype that share an all-reduce."""
    found: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if not found or size > room or found[-1][0].dtype != tensor.dtype:
            found.append([])
            room = BUCKET_BYTES
        found[-1].append(tensor)
        room -= size
    return found
