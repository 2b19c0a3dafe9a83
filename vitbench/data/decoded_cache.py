"""Decoded images on disk, so that only the first pass over a split decodes them.

Only what uint8 holds without loss is cached: small images as they are, larger ones after a preprocessing that rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.api import Pixels
from vitbench.data import disk_cache
from vitbench.data.disk_cache import ArrayCache, ArrayWriter

DEFAULT_LIMIT_BYTES = 20 * 2**30
SUFFIX = ".bin"


def limit_bytes() -> int:
    """The limit of the cache: $VITBENCH_DECODED_GB, else 20 GiB; 0 caches nothing."""
    return disk_cache.limit_from("VITBENCH_DECODED_GB", DEFAULT_LIMIT_BYTES)


def _no_header(_shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    if dtype != np.uint8:
        raise TypeError(f"decoded images are uint8, not {dtype}")
    return b""


@dataclass(frozen=True)
class DecodedCache:
    """Images (N, H, W, 3) uint8 by key, as raw bytes; a process compares the checksum of each key once."""

    folder: Path
    limit_bytes: int = field(default_factory=limit_bytes)

    @cached_property
    def _arrays(self) -> ArrayCache:
        return ArrayCache(self.folder, SUFFIX, self.limit_bytes, _no_header, check_once=True)

    def open(self, key: str) -> Pixels | None:
        """The images of a key, memory-mapped; None if they are not cached or the file is damaged."""
        return self._arrays.open(key)

    def writer(self, key: str, count: int, first: Pixels) -> ArrayWriter | None:
        """A writer for `count` images of the shape of the first batch (B, H, W, 3); None if they cannot be cached."""
        return self._arrays.writer(key, (count, *first.shape[1:]), first.dtype)
