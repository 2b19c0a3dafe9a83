"""Decoded images on disk, so that the next pass over a split decodes nothing: uint8, memory-mapped, checksummed, limited.

Only what uint8 holds without loss is kept: small images as they are, larger ones as a preprocessing that rounds makes them.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitbench.api import Pixels
from vitbench.data import disk_cache

DEFAULT_LIMIT_BYTES = 20 * 2**30
FORMAT = 1
SUFFIX = ".bin"


def limit_bytes() -> int:
    """How much may be kept: $VITBENCH_DECODED_GB, else 20 GiB; 0 keeps nothing."""
    return disk_cache.limit_from("VITBENCH_DECODED_GB", DEFAULT_LIMIT_BYTES)


@dataclass(frozen=True)
class DecodedCache:
    """Arrays (N, H, W, 3) uint8 by key, the least recently used ones dropped beyond the limit."""

    folder: Path
    limit_bytes: int = field(default_factory=limit_bytes)
    checked: set[str] = field(default_factory=set)

    def open(self, key: str) -> Pixels | None:
        """The images of a key, mapped into memory; None if there are none or the file is damaged."""
        data, sidecar = self.folder / f"{key}{SUFFIX}", self.folder / f"{key}.json"
        facts = disk_cache.read_facts(sidecar)
        try:
            if (
                facts is None
                or facts["format"] != FORMAT
                or data.stat().st_size != int(np.prod(facts["shape"]))
            ):
                return None
            found: Pixels = np.memmap(data, dtype=np.uint8, mode="r", shape=tuple(facts["shape"]))
            if key not in self.checked and disk_cache.crc32(found) != facts["crc32"]:
                return None
        except Exception:  # noqa: BLE001  a damaged sidecar raises anything; the images are decoded again
            return None
        self.checked.add(key)
        return found

    def writer(self, key: str, count: int, first: Pixels) -> Writer | None:
        """Where to put `count` images of the shape of the first batch (B, H, W, 3); None if they are too many to keep."""
        shape = (count, *first.shape[1:])
        if int(np.prod(shape)) > self.limit_bytes:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        except OSError:  # as in `Writer.add`
            return None
        os.close(handle)
        return Writer(self, key, shape, Path(name))


@dataclass
class Writer:
    """Images on their way to the store; nothing is seen of them before `finish`."""

    store: DecodedCache
    key: str
    shape: tuple[int, ...]
    path: Path
    crc32: int = 0
    written: int = 0

    def add(self, images: Pixels) -> bool:
        """Append a batch (B, H, W, 3); False, and nothing is kept, if its images are of another shape."""
        if images.shape[1:] != self.shape[1:]:
            self.abandon()
            return False
        data = np.ascontiguousarray(images).tobytes()
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError:  # a full disk costs the cache, not the job
            self.abandon()
            return False
        self.crc32 = zlib.crc32(data, self.crc32)
        self.written += len(images)
        return True

    def finish(self) -> None:
        """Make it visible, the sidecar last."""
        if self.written != self.shape[0]:
            self.abandon()
            return
        try:
            self.path.replace(self.store.folder / f"{self.key}{SUFFIX}")
            facts = {"format": FORMAT, "shape": self.shape, "crc32": self.crc32}
            disk_cache.write_facts(self.store.folder / f"{self.key}.json", facts)
        except OSError:
            self.abandon()
            return
        self.store.checked.add(self.key)
        disk_cache.trim(self.store.folder, SUFFIX, self.store.limit_bytes)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
