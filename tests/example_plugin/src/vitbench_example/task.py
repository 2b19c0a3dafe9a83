"""A task: class names, and three splits that are read when they are asked for."""

import numpy as np

from vitbench import register_task
from vitbench.api import Split, Task
from vitbench.data.arrays import array_split


def _split(seed: int, n: int) -> Split:
    """Noisy stripes, upright or lying."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    stripes = np.tile((np.arange(12) % 4 < 2) * 90.0, (12, 1))
    images = np.stack([stripes.T if label else stripes for label in labels])
    noisy = (images + rng.normal(80, 40, images.shape)).clip(0, 255).astype(np.uint8)
    return array_split(np.repeat(noisy[..., None], 3, axis=3), labels, "stripes")


@register_task("example/stripes", group="example")
def stripes(n: int = 100) -> Task:
    """Upright or lying stripes under noise."""
    return Task.of(("upright", "lying"), lambda: (_split(0, n), _split(1, n), _split(2, n)))
