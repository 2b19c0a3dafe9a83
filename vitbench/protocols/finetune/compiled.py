"""The network of fine-tuning, compiled where that pays: one graph for all jobs of a backbone and image size.

The head stays outside the graph, so other numbers of classes need no other. Before it is used, the compiled network is compared
with itself as it is, on one piece of images: features and gradients of the input layers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.compute.meter import outside
from vitbench.core.seeding import seeded
from vitbench.core.settings import CompileMode, compile_mode

Forward = Callable[[Tensor], Tensor]

# Compiling took 24 s on an H200, and a compiled step of ViT-B/16 0.82 of the time (docs/protocols.md#compiled-steps): it pays
# from this many training images of 224 x 224 pixels on.
PAYS_FROM_PIXELS = 400_000 * 224**2
# The largest difference of features allowed, as the norm of the difference over that of the features.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03}
MOST_CONVOLUTIONS = 1  # the embedding of patches


def pays(module: nn.Module, device: torch.device, images: int, size_px: int) -> bool:
    """Whether a job of so many training images is to be compiled: as VITBENCH_COMPILE says, or by its length on a GPU.

    Of itself only a transformer is: compiled, BiT-R50x1 at 480 px read illegal addresses on an H200, which ends the process.
    """
    mode: CompileMode = compile_mode()
    if mode != "auto":
        return mode == "on"
    convolutions = sum(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())
    long = images * size_px**2 >= PAYS_FROM_PIXELS
    return device.type == "cuda" and long and convolutions <= MOST_CONVOLUTIONS


def compiled(features: nn.Module, images: Tensor, dtype: str) -> tuple[Forward, str]:
    """The module compiled for pieces of this shape, if it computes the same; else as it is. And what the record says of it."""
    with outside("warm-up"):
        try:
            found: Any = torch.compile(features, dynamic=False)
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.fallback_random = True  # compiled dropout draws what it draws otherwise
            apart = _difference(features, found, images, dtype)
        except torch.AcceleratorError:  # nothing runs in this process any more
            raise
        except Exception as error:  # noqa: BLE001  compilers raise anything
            first = str(error).strip().partition("\n")[0][:200]
            return features, f"not compiled: {type(error).__name__}: {first}"
    if not apart <= TOLERANCE[dtype]:
        return features, f"not compiled: its features differ by {apart:.2g} of their norm"
    return (
        found,
        f"compiled (torch {torch.__version__}); its features differ by {apart:.1g} of their norm",
    )


def _difference(features: nn.Module, found: Forward, images: Tensor, dtype: str) -> float:
    """The norm of the difference of features, relative to theirs; nothing of the module is changed."""
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
    plain, other = (result.detach().float() for result in results)
    return float((plain - other).norm() / plain.norm().clamp_min(1e-12))
