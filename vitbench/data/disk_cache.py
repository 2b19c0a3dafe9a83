"""Arrays on disk by key: written atomically, memory-mapped, checksummed, and limited in size.

A cached array is two files: KEY.SUFFIX with its values, and KEY.json, written last, with its shape, dtype and CRC-32. The
least recently used arrays are deleted when a folder exceeds its limit. A cache never fails a job: whatever cannot be read is
computed again, and whatever cannot be written is not cached.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitbench.core.files import write_atomically
from vitbench.core.settings import number_from

FORMAT = 1
CRC_ROWS = 1024
ABANDONED_AFTER_S = 24 * 3600

Header = Callable[[tuple[int, ...], np.dtype[Any]], bytes]


@dataclass(frozen=True)
class Usage:
    """How much of its limit a cache folder uses."""

    arrays: int
    size_bytes: int
    limit_bytes: int


@dataclass(frozen=True)
class ArrayCache:
    """Arrays of one file format in one folder.

    `header` returns the bytes that precede the values in a file. With `check_once`, a process compares the checksum of an
    array only the first time it opens it.
    """

    folder: Path
    suffix: str
    limit_bytes: int
    header: Header
    check_once: bool = False
    checked: set[str] = field(default_factory=set)

    def open(self, key: str, mode: Literal["r", "c"] = "r", *, check: bool = True) -> NDArray[Any] | None:
        """The array of a key, mapped anew, read-only or copy-on-write; None if it is not cached or is damaged.

        `check` compares its checksum, which reads all of it.
        """
        try:
            facts = self.facts(key)
            os.utime(self.folder / f"{key}.json")  # the time of its last use
            return self._mapped(key, facts, mode, check)
        except Exception:  # noqa: BLE001  missing or damaged files raise anything
            return None

    def facts(self, key: str) -> dict[str, Any]:
        """What the sidecar of an array states.

        Raises:
            OSError, ValueError: it is not there, or is damaged.
        """
        found: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        return found

    def _mapped(
        self, key: str, facts: dict[str, Any], mode: Literal["r", "c"], check: bool
    ) -> NDArray[Any] | None:
        # Sidecars of decoded images had no dtype once, and those of features no format.
        shape, dtype = tuple(facts["shape"]), np.dtype(facts.get("dtype", "uint8"))
        path, header = self.folder / f"{key}{self.suffix}", self.header(shape, dtype)
        with path.open("rb") as file:
            is_as_stated = facts.get("format", FORMAT) == FORMAT and file.read(len(header)) == header
        if not is_as_stated or path.stat().st_size != len(header) + math.prod(shape) * dtype.itemsize:
            return None
        found: NDArray[Any] = np.memmap(path, dtype, mode, offset=len(header), shape=shape)
        known = not check or (self.check_once and key in self.checked)
        if not known and crc32(found) != facts["crc32"]:
            return None
        self.checked.add(key)
        return found

    def writer(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], facts: dict[str, Any] | None = None
    ) -> ArrayWriter | None:
        """A writer for an array that comes in batches; None if it exceeds the limit or the folder cannot be written."""
        header = self.header(shape, dtype)
        if math.prod(shape) * dtype.itemsize > self.limit_bytes:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        except OSError:
            return None
        os.close(handle)
        writer = ArrayWriter(self, key, shape, dtype, facts or {}, Path(name))
        if writer.append(header):
            return writer
        writer.abandon()
        return None


@dataclass
class ArrayWriter:
    """An array on its way into a cache; readers see nothing of it before `finish`."""

    cache: ArrayCache
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    facts: dict[str, Any]
    path: Path
    crc32: int = 0
    written: int = 0

    def add(self, rows: NDArray[Any]) -> bool:
        """Append rows; False if their shape differs from the first ones' or the disk is full: the rest cannot be cached."""
        if rows.shape[1:] != self.shape[1:] or rows.dtype != self.dtype:
            return False
        data = np.ascontiguousarray(rows).data
        if not self.append(data):
            return False
        self.crc32 = zlib.crc32(data, self.crc32)
        self.written += len(rows)
        return True

    def append(self, data: bytes | memoryview) -> bool:
        """Append bytes without counting them as rows; False if the disk is full."""
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError:
            return False
        return True

    def rows(self) -> NDArray[Any]:
        """The rows added so far, mapped copy-on-write. They remain when the file is renamed or deleted."""
        offset = len(self.cache.header(self.shape, self.dtype))
        shape = (self.written, *self.shape[1:])
        found: NDArray[Any] = np.memmap(self.path, self.dtype, "c", offset=offset, shape=shape)
        return found

    def finish(self, *, flush: bool = False) -> None:
        """Make the array visible to readers, the sidecar last; with `flush` it survives a power cut."""
        if self.written != self.shape[0]:
            self.abandon()
            return
        stated = {"format": FORMAT, "shape": self.shape, "dtype": str(self.dtype), "crc32": self.crc32}
        try:
            if flush:
                with self.path.open("rb") as file:
                    os.fsync(file.fileno())
            self.path.replace(self.cache.folder / f"{self.key}{self.cache.suffix}")
            text = json.dumps({**self.facts, **stated}, indent=1)
            write_atomically(self.cache.folder / f"{self.key}.json", text)
            self.cache.checked.add(self.key)
            trim(self.cache.folder, self.cache.suffix, self.cache.limit_bytes)
        except OSError:
            self.abandon()

    def abandon(self) -> None:
        """Delete what has been written, unless it is finished."""
        self.path.unlink(missing_ok=True)


def limit_from(variable: str, default_bytes: int) -> int:
    """A cache's limit: the GB in an environment variable, else the default; 0 caches nothing.

    Raises:
        UsageError: the variable is not a number.
    """
    return int(number_from(variable, default_bytes / 2**30) * 2**30)


def usage(folder: Path, suffix: str, limit_bytes: int) -> Usage:
    """How many arrays a folder holds, and their size."""
    found = _arrays(folder, suffix)
    return Usage(len(found), sum(size for _, _, size in found), limit_bytes)


def trim(folder: Path, suffix: str, limit_bytes: int) -> None:
    """Delete the least recently used arrays until the rest is within the limit, and files that killed writers left."""
    _sweep(folder, suffix)
    found = _arrays(folder, suffix)
    total = sum(size for _, _, size in found)
    for _, sidecar, size in sorted(found):
        if total <= limit_bytes:
            return
        sidecar.unlink(missing_ok=True)
        sidecar.with_suffix(suffix).unlink(missing_ok=True)
        total -= size


def _sweep(folder: Path, suffix: str) -> None:
    """Delete temporary files, and arrays without a sidecar, that are too old for anybody to be writing them."""
    for path in folder.iterdir():
        is_orphan = path.suffix == ".tmp" or (
            path.suffix == suffix and not path.with_suffix(".json").exists()
        )
        with contextlib.suppress(OSError):
            if is_orphan and path.is_file() and time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                path.unlink()


def _arrays(folder: Path, suffix: str) -> list[tuple[int, Path, int]]:
    """Time of last use, sidecar and size of each array."""
    found = []
    for sidecar in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            found.append((sidecar.stat().st_mtime_ns, sidecar, sidecar.with_suffix(suffix).stat().st_size))
    return found


def crc32(array: NDArray[Any]) -> int:
    """The CRC-32 of an array's values in order, computed a thousand rows at a time."""
    total = 0
    for row in range(0, len(array), CRC_ROWS):
        total = zlib.crc32(np.ascontiguousarray(array[row : row + CRC_ROWS]).data, total)
    return total
