"""Analytic FLOPs of a training step: a forward pass, and what of a backward pass the trained weights need.

A frozen weight needs no gradient of its own, and layers in front of the first trained weight need no backward pass at all.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def training_flops(network: nn.Module, size_px: int) -> int | None:
    """Count the FLOPs of a step on one image, of a network whose forward returns features (B, D), as it is to be trained.

    On the meta device: no arithmetic, no copy of the weights. Returns None if the network does something that meta tensors do
    not support.
    """
    weights = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers())
    }
    image = torch.empty(1, 3, size_px, size_px, device="meta")
    # torch's own formula counts grouped convolutions as if each group saw all channels.
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    try:
        with torch.enable_grad(), counter:
            features = torch.func.functional_call(network, weights, (image,))
            if features.requires_grad:  # not where the head alone is trained
                features.sum().backward()
    except Exception:  # noqa: BLE001  plugin code may raise anything: must not fail a plan
        return None
    return int(counter.get_total_flops())


def _convolution_backward(
    grad_shape: Any,
    x_shape: Any,
    weight_shape: Any,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Any,
    **_shapes: Any,
) -> int:
    """As much as the forward pass for the gradient of the images, and again for that of the weights, where they are needed."""
    positions = x_shape if transposed else grad_shape
    products: int = positions[0] * math.prod(positions[2:]) * math.prod(weight_shape)
    return 2 * products * (int(output_mask[0]) + int(output_mask[1]))
