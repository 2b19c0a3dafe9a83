"""The only place where random generators are made, each from a seed and a purpose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derived_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, so that two uses of a job's seed never share a stream."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derived_seed(seed, purpose))


def torch_generator(seed: int, purpose: str, device: str = "cpu") -> torch.Generator:
    """A torch generator for one purpose."""
    import torch

    return torch.Generator(device).manual_seed(derived_seed(seed, purpose))


@contextlib.contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Within the block, torch's global generators are seeded; afterwards they continue where they were.

    Layer initialisers, dropout and stochastic depth take no generator, so this is the one place that seeds the global ones.
    """
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(derived_seed(seed, purpose))
        yield
