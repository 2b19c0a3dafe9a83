"""Patches of scikit-learn's two sample photographs, classified by photograph and region; no download."""

from __future__ import annotations

from functools import cache

import numpy as np

from vitbench.api import Labels, Pixels, Split, Task
from vitbench.core.registry import register_task
from vitbench.data.arrays import array_split, stratified_parts

PATCH_PX = 16
PHOTOS = ("china.jpg", "flower.jpg")
ROWS, COLUMNS = 2, 3
CLASSES = tuple(
    f"{photo.removesuffix('.jpg')} {row} {column}"
    for photo in PHOTOS
    for row in ("top", "bottom")
    for column in ("left", "middle", "right")
)
SPLIT_SEED = 0


def _patches(photo: Pixels) -> tuple[Pixels, Labels]:
    """Return non-overlapping patches (N, P, P, 3) of a photograph, and the region (N,) of each on a 2 x 3 grid."""
    height, width = photo.shape[0] // PATCH_PX, photo.shape[1] // PATCH_PX
    cropped = photo[: height * PATCH_PX, : width * PATCH_PX]
    grid = cropped.reshape(height, PATCH_PX, width, PATCH_PX, 3).swapaxes(1, 2)
    row = np.arange(height) * ROWS // height
    column = np.arange(width) * COLUMNS // width
    regions = row[:, None] * COLUMNS + column[None, :]
    return grid.reshape(-1, PATCH_PX, PATCH_PX, 3), regions.reshape(-1).astype(np.int64)


@cache
def _splits() -> tuple[Split, Split, Split]:
    from sklearn.datasets import load_sample_image

    cut = [_patches(load_sample_image(photo)) for photo in PHOTOS]
    images = np.concatenate([patches for patches, _ in cut])
    labels = np.concatenate([regions + i * ROWS * COLUMNS for i, (_, regions) in enumerate(cut)])
    parts = stratified_parts(labels, (0.2, 0.2), SPLIT_SEED)
    train, val, test = (array_split(images[part], labels[part], "photo_regions") for part in parts)
    return train, val, test


@register_task("photo_regions", group="quickstart", n_test=416, source="scikit-learn, load_sample_images")
def photo_regions() -> Task:
    """Which photograph and which sixth of it a 16 x 16 px patch is from; 12 classes, stratified split 60/20/20."""
    return Task.of(CLASSES, _splits)
