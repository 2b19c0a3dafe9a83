"""What processes that train one model together tell each other; a process alone has nobody to tell.

Gradients are summed once a step, after each process has done its whole share: whatever happens to one until then, memory that
runs out above all, is settled together, and nobody is left waiting. Numbers and plain data go over the CPU: no device is waited
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

BUCKET_BYTES = 64 * 2**20  # of one message

T = TypeVar("T")


def place() -> tuple[int, int]:
    """Which process this is, and of how many."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def least(value: int) -> int:
    """The least of all processes' values; here they wait for each other."""
    if place()[1] == 1:
        return value
    box = torch.tensor(value)
    dist.all_reduce(box, dist.ReduceOp.MIN)
    return int(box)


def told(value: T) -> T:
    """The first process' value, for all: what they go by must not differ."""
    if place()[1] == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    found: T = box[0]
    return found


def share(tensor: Tensor) -> Tensor:
    """This process' rows of a batch."""
    process, processes = place()
    return tensor.tensor_split(processes)[process]


@torch.no_grad()
def same(tensors: Iterable[Tensor]) -> None:
    """All processes begin with the first one's weights."""
    if place()[1] > 1:
        for tensor in tensors:
            whole = tensor.contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)


@torch.no_grad()
def summed(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes its sum over all processes, many small ones in one message."""
    under_way = []
    for bucket in _buckets(tensors):
        flat = _flatten_dense_tensors(bucket)
        under_way.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, message in under_way:
        message.wait()
        for tensor, part in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            tensor.copy_(part)


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
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
