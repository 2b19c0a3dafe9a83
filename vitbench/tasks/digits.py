"""scikit-learn's 1,797 handwritten digits: a real data set that needs no download."""

from __future__ import annotations

from functools import cache

import numpy as np

from vitbench.api import Split, Task
from vitbench.core.registry import register_task
from vitbench.data.arrays import array_split, stratified_parts

CLASSES = tuple("0123456789")
SPLIT_SEED = 0  # fixed, because the data set has no official split


@cache
def _splits() -> tuple[Split, Split, Split]:
    from sklearn.datasets import load_digits

    data = load_digits()
    # Stored as ink counts 0 to 16 per pixel: convert to grey levels, then to three equal channels.
    grey = np.rint(data.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    labels = data.target.astype(np.int64)
    parts = stratified_parts(labels, (0.2, 0.2), SPLIT_SEED)
    train, val, test = (array_split(images[part], labels[part], "digits") for part in parts)
    return train, val, test


@register_task(
    "digits", group="quickstart", n_test=359, source="scikit-learn, load_digits (UCI optdigits, test part)"
)
def digits() -> Task:
    """Handwritten digits, 8 x 8 px greyscale, 10 classes; stratified split 60/20/20."""
    return Task.of(CLASSES, _splits)
