"""Fully sharded training with FSDP2 (arXiv 2304.11277), for models whose training does not fit one GPU.

Weights, gradients, momentum and weight average are sharded over all ranks; each block gathers its weights while it computes.
Checkpoints hold full tensors, so a run can resume with another world size, or in smaller pieces when memory has run out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vitbench.protocols.finetune.snapshot import snapshot

TRAINING_SHARE = (
    0.5  # of a GPU's memory for weights, gradients and optimiser state; the rest is for activations
)
UNIT_SHARE = 1 / 8  # largest fraction of all weights in one sharded unit, gathered as a whole


class RanksOutOfStepError(RuntimeError):
    """Memory ran out for a piece of so many images. The ranks are at different layers now, so that none can repeat it."""

    def __init__(self, images: int) -> None:
        super().__init__(f"memory ran out for {images} images of a model that is spread over all ranks")
        self.images = images


def is_too_big(model: nn.Module, device: torch.device, *, copies: int) -> bool:
    """Return whether weights, a copy of them, gradients, and `copies` more leave too little GPU memory for activations."""
    if device.type != "cuda":
        return False
    held = (3 + copies) * sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return held > TRAINING_SHARE * torch.cuda.get_device_properties(device).total_memory


def shard(model: nn.Module) -> nn.Module:
    """Return a copy sharded over all ranks; the original is moved to the CPU until `gather`."""
    device = next(model.parameters()).device
    model.to("cpu")
    sharded = copy.deepcopy(model)  # fully_shard moves its units to the device one by one
    for weight in sharded.parameters():
        weight.data = weight.data.contiguous()  # fully_shard refuses channels_last
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in [*_units(sharded, UNIT_SHARE * _size(sharded)), sharded]:
        fully_shard(unit, mesh=mesh)
    return sharded


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _units(module: nn.Module, most: float) -> Iterator[nn.Module]:
    """Yield the blocks to shard: the outermost members of ModuleList and Sequential with at most `most` weights.

    Children of other modules stay in the enclosing unit: attention may use its projection's weights without calling it.
    """
    for child in module.children():
        is_member = isinstance(module, nn.Sequential | nn.ModuleList)
        if is_member and not isinstance(child, nn.Sequential | nn.ModuleList) and 0 < _size(child) <= most:
            yield child
        else:
            yield from _units(child, most)


@torch.no_grad()
def gather(sharded: nn.Module, model: nn.Module) -> None:
    """Copy a sharded copy's weights back into the original model, and move that to the device; every rank must call this."""
    parameters = dict(model.named_parameters())
    device = torch.device("cpu")
    for name, weight in sharded.named_parameters():
        parameters[name].copy_(full_tensor(weight))
        device = weight.device
    buffers = dict(model.named_buffers())
    for name, buffer in sharded.named_buffers():
        buffers[name].copy_(buffer)
    model.to(device)


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` made this model."""
    return isinstance(next(model.parameters()), DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a sharded tensor as a full one, and any other tensor unchanged; every rank must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def for_checkpoint(tensor: Tensor) -> Tensor:
    """Return a snapshot as checkpoints hold it: full and, if the tensor was sharded, on rank 0; empty on other ranks."""
    if not isinstance(tensor, DTensor):
        return snapshot(tensor)
    whole = tensor.full_tensor()
    return snapshot(whole) if dist.get_rank() == 0 else whole.new_empty(0)


def distribute_like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return a full tensor on the device of a weight, sharded like it."""
    if not isinstance(weight, DTensor):
        return tensor.to(weight.device)
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements)
