"""Networks compiled where that pays: one graph for all jobs of a backbone and image size.

Before a compiled network is used, it is compared with itself as it is, on one batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.compute.compiling import MOST_CONVOLUTIONS
from vitbench.compute.meter import outside
from vitbench.core.settings import CompileMode, compile_mode

Forward = Callable[[Tensor], Tensor]

# The largest difference of features allowed, as the norm of the difference over that of the features.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03}
# Graphs of one function: of backbones, image and batch sizes, and modes. Torch's own limit is 8; what is beyond a limit runs as
# it is, and only a warning says so.
MOST_GRAPHS = 128


def is_wanted(module: nn.Module, on_gpu: bool, is_long: Callable[[], bool]) -> bool:
    """Whether work is to be compiled: as VITBENCH_COMPILE says or, of itself, long work of a transformer on a GPU.

    Others are not: they may end the process (`compiling.MOST_CONVOLUTIONS`).
    """
    mode: CompileMode = compile_mode()
    if mode != "auto":
        return mode == "on"
    if not on_gpu:
        return False
    return convolutions(module) <= MOST_CONVOLUTIONS and is_long()


def convolutions(module: nn.Module) -> int:
    """The number of a network's convolutional layers, which decides whether it is compiled."""
    return sum(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())


def compiled(
    forward: Forward, difference: Callable[[Forward], float], dtype: str
) -> tuple[Forward | None, str]:
    """A function compiled with static shapes, and what the record says of it; None if it computes something else, or cannot be.

    `difference` returns how far a compiled one is from the function as it is: `apart` of two results.
    """
    with outside("warm-up"):
        try:
            dynamo: Any = importlib.import_module("torch._dynamo.config")
            dynamo.recompile_limit = MOST_GRAPHS
            found: Any = torch.compile(forward, dynamic=False)
            inductor: Any = importlib.import_module("torch._inductor.config")
            inductor.fallback_random = True  # compiled dropout draws what it draws otherwise
            off = difference(found)
        except torch.AcceleratorError:  # nothing runs in this process any more
            raise
        except Exception as error:  # noqa: BLE001  compilers raise anything
            first = str(error).strip().partition("\n")[0][:200]
            return None, f"not compiled: {type(error).__name__}: {first}"
    if not off <= TOLERANCE[dtype]:
        return None, f"not compiled: its features differ by {off:.2g} of their norm"
    return found, f"compiled (torch {torch.__version__}); its features differ by {off:.1g} of their norm"


def apart(plain: Tensor, other: Tensor) -> float:
    """The norm of the difference of features, relative to theirs."""
    plain, other = plain.detach().float(), other.detach().float()
    return float((plain - other).norm() / plain.norm().clamp_min(1e-12))
