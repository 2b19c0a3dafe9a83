"""Analytic FLOPs of a forward pass: matrix products and convolutions only, one multiply-add = 2 FLOPs."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(backbone: nn.Module, size_px: int) -> int | None:
    """Count the FLOPs of `backbone.features` on one image, on the meta device: no arithmetic, no copy of the weights.

    Returns None if the model does something that meta tensors do not support.
    """
    tensors = itertools.chain(backbone.named_parameters(), backbone.named_buffers())
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    image = torch.empty(1, 3, size_px, size_px, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            torch.func.functional_call(backbone, weights, (image,))
    except Exception:  # noqa: BLE001  plugin code may raise anything: must not fail the job
        return None
    return int(counter.get_total_flops())
