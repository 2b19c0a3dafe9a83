"""The images that the miniature backbones learn from: made from seeds, the same on every machine, without any file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from painters import PAINTERS, SIZE

Pixels = NDArray[np.uint8]
SEED = 25
COLUMNS = 160  # numbers that an instance has; no painter takes more
CATEGORIES = {"glyphs": 192, "contours": 48, "fractals": 48, "textures": 192, "leaves": 96}
TOTAL = sum(CATEGORIES.values())
TRAIN, HELD_OUT = 0, 1  # streams of instances


@cache
def _kinds() -> list[tuple[str, int]]:
    return [(kind, number) for kind, count in CATEGORIES.items() for number in range(count)]


def _stream(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([SEED, *words])))


def paint(category: int, instances: Sequence[int], part: int = TRAIN) -> Pixels:
    """Images (N, 32, 32, 3) of one category; an instance is the same whichever others are asked for."""
    kind, number = _kinds()[category]
    place = list(CATEGORIES).index(kind)
    own = _stream(place, number).random(COLUMNS)
    numbers = _stream(place, number, 1 + part).random((max(instances) + 1, COLUMNS))[list(instances)]
    return np.floor(PAINTERS[kind](own, numbers) * 255 + 0.5).astype(np.uint8)


def digest() -> str:
    """SHA-256 of the first image of every category: equal wherever the images are."""
    found = hashlib.sha256()
    for category in range(TOTAL):
        found.update(paint(category, [0]).tobytes())
    return found.hexdigest()


def _rows(task: tuple[Path, int, int, int]) -> None:
    file, category, count, part = task
    drawn = np.lib.format.open_memmap(file, mode="r+")
    for low in range(0, count, 64):
        some = range(low, min(low + 64, count))
        drawn[category * count + low : category * count + some.stop] = paint(category, some, part)


def paint_all(file: Path, count: int, part: int, processes: int) -> NDArray[np.int64]:
    """Write `count` images of every category (C * count, 32, 32, 3) to a .npy file, in order; their labels."""
    np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(TOTAL * count, SIZE, SIZE, 3)).flush()
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_rows, [(file, category, count, part) for category in range(TOTAL)], chunksize=4))
    return np.repeat(np.arange(TOTAL), count)
