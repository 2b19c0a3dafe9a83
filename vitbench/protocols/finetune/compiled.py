"""The network of fine-tuning, compiled where that pays (`vitbench.compute.compiled`): one graph for all tasks.

The head stays outside the graph, so other numbers of classes need no other. Compared are features, and gradients are computed,
of one piece of images in training mode.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from vitbench.compute import compiled as shared
from vitbench.compute.compiled import Forward
from vitbench.compute.compiling import steps_pay
from vitbench.core.seeding import seeded


def pays(module: nn.Module, device: torch.device, images: int, size_px: int) -> bool:
    """Whether a job of so many training images is to be compiled: as VITBENCH_COMPILE says, or by its length on a GPU."""
    return shared.is_wanted(module, device.type == "cuda", partial(steps_pay, images, size_px))


def compiled(features: nn.Module, images: Tensor, dtype: str) -> tuple[Forward, str]:
    """The module compiled for pieces of this shape, if it computes the same; else as it is. And what the record says of it."""
    found, note = shared.compiled(features, lambda other: _difference(features, other, images, dtype), dtype)
    return features if found is None else found, note


def _difference(features: nn.Module, found: Forward, images: Tensor, dtype: str) -> float:
    """How far the features are apart; nothing of the module is changed."""
    buffers = [buffer.clone() for buffer in features.buffers()]
    results = []
    for forward in (features, found):
        with (
            seeded(0, "comparison"),
            torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"),
        ):
            results.append(forward(images))
        results[-1].float().sum().backward()
        for weight in features.parameters():
            weight.grad = None
        for buffer, before in zip(features.buffers(), buffers, strict=True):
            buffer.data.copy_(before)
    return shared.apart(*results)
