"""A model whose training does not fit one GPU, spread over the processes of torchrun by FSDP2 (arXiv 2304.11277).

Weights, gradients, momentum and average lie in shares; a block's weights come together while it computes. States that are kept
hold whole tensors, so that a run goes on with another number of processes.
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

TRAINING_SHARE = 0.5  # of a GPU's memory for what grows with the weights; the rest is for activations
UNIT_SHARE = 1 / 8  # of all weights may come together at once


def is_too_big(model: nn.Module, device: torch.device, *, averaging: bool) -> bool:
    """Whether weights, their copy as they came, gradients, momentum and average leave no room for activations on a GPU."""
    if device.type != "cuda":
        return False
    copies = 5 if averaging else 4
    held = copies * sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return held > TRAINING_SHARE * torch.cuda.get_device_properties(device).total_memory


def shard(model: nn.Module) -> nn.Module:
    """A copy whose weights are spread over all processes; what is copied moves to the CPU meanwhile (see `gather`)."""
    device = next(model.parameters()).device
    model.to("cpu")
    spread = copy.deepcopy(model)  # its units move to their device one by one, each when it is spread
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in [*_units(spread, UNIT_SHARE * _size(spread)), spread]:
        fully_shard(unit, mesh=mesh)
    return spread


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _units(module: nn.Module, most: float) -> Iterator[nn.Module]:
    """The blocks of a network: members of its lists and sequences, the outermost that are small enough.

    Members of other modules are left to the whole: an attention layer may use its projection's weights without calling it.
    """
    for child in module.children():
        is_member = isinstance(module, nn.Sequential | nn.ModuleList)
        if is_member and not isinstance(child, nn.Sequential | nn.ModuleList) and 0 < _size(child) <= most:
            yield child
        else:
            yield from _units(child, most)


@torch.no_grad()
def gather(spread: nn.Module, model: nn.Module) -> None:
    """Put the weights of a sharded copy into the model it was made from, back on its device; every process must call this."""
    wholes = dict(model.named_parameters())
    device = torch.device("cpu")
    for name, weight in spread.named_parameters():
        wholes[name].copy_(full(weight))
        device = weight.device
    kept = dict(model.named_buffers())
    for name, buffer in spread.named_buffers():
        kept[name].copy_(buffer)
    model.to(device)


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; every process must call this. Others stay as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def kept(tensor: Tensor) -> Tensor:
    """A tensor as it is written: whole, and of a sharded model in the first process alone, off its device."""
    if not isinstance(tensor, DTensor):
        return tensor
    whole = tensor.full_tensor()
    return whole.cpu() if dist.get_rank() == 0 else whole.new_empty(0)


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor laid out as a weight is: on its device, in its shares."""
    if not isinstance(weight, DTensor):
        return tensor.to(weight.device)
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements)
