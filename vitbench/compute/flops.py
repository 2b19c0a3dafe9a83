"""Analytic FLOPs of a forward pass: 2 per multiply-add of matrix products and convolutions, nothing else counted."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(backbone: nn.Module, size_px: int) -> int | None:
    """FLOPs of one image through `backbone.features`, on the meta device: no arithmetic, no copy of the weights.

    None where the model computes in a way that meta tensors cannot follow.
    """
    tensors = itertools.chain(backbone.named_parameters(), backbone.named_buffers())
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    image = torch.empty(1, 3, size_px, size_px, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            torch.func.functional_call(backbone, weights, (image,))
    except Exception:  # noqa: BLE001  a plugin's own code may do anything; a cost is not worth a job
        return None
    return int(counter.get_total_flops())
