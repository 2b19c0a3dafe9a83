"""timm's sources of random numbers, replaced by one generator, so that it draws what ours draws."""

import math
from types import SimpleNamespace

import numpy as np


def python_random(rng):
    """What timm uses of Python's `random`."""
    return SimpleNamespace(
        random=rng.random,
        uniform=rng.uniform,
        gauss=rng.normal,
        randint=lambda low, high: int(rng.integers(low, high + 1)),
    )


def numpy_with(rng, first=()):
    """NumPy with another `random`; `first` are the numbers that `rand` returns before those of the generator."""
    begun = iter(first)
    drawn = SimpleNamespace(
        rand=lambda: next(begun, None) or rng.random(),
        beta=rng.beta,
        randint=lambda low, high, size=None: int(rng.integers(low, high)),
        choice=lambda names, count, **_: [names[i] for i in rng.integers(0, len(names), count)],
    )
    return SimpleNamespace(**{**vars(np), "random": drawn, "sqrt": math.sqrt})
