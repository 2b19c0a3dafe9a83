"""Analytic FLOPs of a forward pass: 2 per multiply-add of matrix products and convolutions, nothing else counted."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(backbone: Any, size_px: int) -> int | None:
    """FLOPs of one image through `backbone.features`, on fake tensors: no arithmetic is done.

    None where the model computes in a way that fake tensors cannot follow.
    """
    counter = FlopCounterMode(display=False)
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), counter:
            backbone.features(torch.empty(1, 3, size_px, size_px, device=device))
    except Exception:  # noqa: BLE001  a plugin's own code may do anything; a cost is not worth a job
        return None
    return int(counter.get_total_flops())
