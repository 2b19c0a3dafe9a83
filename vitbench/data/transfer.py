"""Copies between this machine's memory and a GPU's that neither the GPU nor this process waits for.

Memory must be pinned for that: a copy from or to any other waits for all kernels that are queued. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor


def host_room(shape: Sequence[int], dtype: torch.dtype, device: str) -> Tensor:
    """Uninitialised memory of this machine, pinned if it is for a GPU."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.startswith("cuda"))


def sent(host: Tensor, device: str) -> Tensor:
    """A tensor on the device. From pinned memory, a GPU copies it beside the kernels that are queued.

    What is queued afterwards waits for the copy, on the GPU.
    """
    if not device.startswith("cuda"):
        return host.to(device)
    current = torch.cuda.current_stream(device)
    beside = _copy_stream(current.device)
    with torch.cuda.stream(beside):
        found = host.to(device, non_blocking=True)
    current.wait_stream(beside)
    found.record_stream(current)  # its memory is not used anew before what is queued here has read it
    return found


@lru_cache(maxsize=16)
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def fetched(results: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield results in memory of this machine, those of a GPU one late: the next is queued before a result is waited for."""
    last: _Coming | None = None
    for result in results:
        if not result.is_cuda:
            yield result
            continue
        coming = _Coming(result)
        if last is not None:
            yield last.arrived()
        last = coming
    if last is not None:
        yield last.arrived()


class _Coming:
    """A GPU's result on its way through pinned memory."""

    def __init__(self, result: Tensor) -> None:
        self.host = host_room(result.shape, result.dtype, "cuda").copy_(result, non_blocking=True)
        self.event = torch.cuda.Event()
        self.event.record(torch.cuda.current_stream(result.device))

    def arrived(self) -> Tensor:
        """The result, in memory that is not pinned: its room is used again."""
        self.event.synchronize()
        return self.host.clone()
