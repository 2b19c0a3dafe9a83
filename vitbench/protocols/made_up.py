"""Made-up features to fit a probe on before it is timed: libraries load and choose their kernels at the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitbench.core.lazy_import import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

CLASSES, DIM = 3, 40


def made_up(device: str, examples: int = 80) -> tuple[Tensor, Tensor]:
    """Return features (N, 40) float32 and labels (N,) of three classes on a device, without drawing random numbers."""
    x = torch.arange(examples * DIM, device=device).float().sin().view(examples, DIM)
    return x, torch.arange(examples, device=device) % CLASSES
