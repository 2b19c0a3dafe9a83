"""VTAB's derived labels, as functions of the stored annotations (docs/protocols.md#label-rules)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

CLEVR_FEWEST = 3  # objects in a scene: 3 to 10 (TA:data/clevr.py:32-34)
CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # TA:data/clevr.py:45-53
KITTI_DISTANCES = (-100.0, 8.0, 20.0, 999.0)  # metres, TA:data/kitti.py:90-103
KITTI_NOTHING = 1000.0
KITTI_VEHICLES = (
    3  # smaller types are car, van and truck (TFDS:datasets/kitti/kitti_dataset_builder.py:30-39)
)


def clevr_count(pixel_coords: ArrayLike) -> int:
    """Return the class of a scene, its number of objects minus 3; `pixel_coords` (n, 3) has one row per object.

    Raises:
        ValueError: the scene has fewer than 3 objects.
    """
    count = len(np.asarray(pixel_coords).reshape(-1, 3))
    if count < CLEVR_FEWEST:
        raise ValueError(f"a CLEVR scene has {CLEVR_FEWEST} to 10 objects, this one has {count}")
    return count - CLEVR_FEWEST


def clevr_distance(pixel_coords: ArrayLike) -> int:
    """Return the class of a scene by the depth of its nearest object, the third column of `pixel_coords` (n, 3).

    A depth on a boundary belongs to the lower class.

    Raises:
        ValueError: the scene has no objects.
    """
    depths = np.asarray(pixel_coords, dtype=np.float32).reshape(-1, 3)[:, 2]
    if len(depths) == 0:
        raise ValueError("a CLEVR scene without objects has no nearest object")
    return _bin(float(depths.min()), CLEVR_DISTANCES)


def kitti_distance(types: Sequence[int], locations: ArrayLike) -> int:
    """Return the class of a street scene by its nearest vehicle; `types` (n,), `locations` (n, 3) in metres, depth last.

    0: up to 8 m, 1: up to 20 m, 2: farther, 3: no vehicle. Classes are ordered by distance, not by TFDS's class names.
    """
    depths = np.asarray(locations, dtype=np.float32).reshape(-1, 3)[:, 2]
    vehicles = depths[np.asarray(types, dtype=np.int64) < KITTI_VEHICLES]
    return _bin(float(vehicles.min(initial=KITTI_NOTHING)), KITTI_DISTANCES)


def dsprites_bins(value: int, values: int, bins: int = 16) -> int:
    """Return the bin, 0 to bins - 1, of a value out of `values`: floor(value / (values / bins)) (TA:data/dsprites.py)."""
    return value * bins // values


def _bin(value: float, thresholds: Sequence[float]) -> int:
    """Return the index of the last threshold below the value."""
    return max((i for i, threshold in enumerate(thresholds) if threshold < value), default=0)
