"""Copies of tensors that training goes on changing, without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def snapshot(tensor: Tensor) -> Tensor:
    """A copy on the CPU that later steps do not change; from a GPU it is complete when `all_copied` says so.

    It goes to pinned memory, in the device's own order: the next step is queued behind it, and the CPU does not wait.
    """
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    if tensor.device.type != "cuda":
        return tensor.detach().cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor.detach(), non_blocking=True)


def all_copied(device: torch.device) -> Callable[[], None]:
    """A function that waits for the snapshots made so far, for any thread to call."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize
