"""Folders of arrays on disk, each with a sidecar of facts, the least recently used ones dropped beyond a limit."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitbench.core.files import write_atomically
from vitbench.core.settings import number_from

CRC_ROWS = 1024
ABANDONED_AFTER_S = 24 * 3600


@dataclass(frozen=True)
class Usage:
    """What a folder holds."""

    arrays: int
    size_bytes: int
    limit_bytes: int


def limit_from(variable: str, default_bytes: int) -> int:
    """How much may be kept: a number of GB in an environment variable, else the default; 0 keeps nothing.

    Raises:
        UsageError: it is no number.
    """
    return int(number_from(variable, default_bytes / 2**30) * 2**30)


def read_facts(sidecar: Path) -> dict[str, Any] | None:
    """The facts beside an array, marked as used just now; None if there are none."""
    try:
        facts: dict[str, Any] = json.loads(sidecar.read_text())
        os.utime(sidecar)
    except (OSError, ValueError):
        return None
    return facts


def write_facts(sidecar: Path, facts: dict[str, Any]) -> None:
    """Make an array known, after it has been written."""
    write_atomically(sidecar, json.dumps(facts, indent=1))


def usage(folder: Path, suffix: str, limit_bytes: int) -> Usage:
    """How much lies in a folder."""
    found = _found(folder, suffix)
    return Usage(len(found), sum(size for _, _, size in found), limit_bytes)


def trim(folder: Path, suffix: str, limit_bytes: int) -> None:
    """Drop what was used least recently until the rest is within the limit, and what writers left that were killed."""
    _sweep(folder, suffix)
    found = _found(folder, suffix)
    total = sum(size for _, _, size in found)
    for _, sidecar, size in sorted(found):
        if total <= limit_bytes:
            return
        sidecar.unlink(missing_ok=True)
        sidecar.with_suffix(suffix).unlink(missing_ok=True)
        total -= size


def _sweep(folder: Path, suffix: str) -> None:
    """Files without a sidecar, or under a temporary name, that nobody can be writing any more."""
    for path in folder.iterdir():
        is_orphan = path.suffix == ".tmp" or (
            path.suffix == suffix and not path.with_suffix(".json").exists()
        )
        with contextlib.suppress(OSError):
            if is_orphan and path.is_file() and time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                path.unlink()


def _found(folder: Path, suffix: str) -> list[tuple[int, Path, int]]:
    found = []
    for sidecar in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            found.append((sidecar.stat().st_mtime_ns, sidecar, sidecar.with_suffix(suffix).stat().st_size))
    return found


def crc32(array: NDArray[Any], start: int = 0) -> int:
    """Checksum of an array's values in order, a thousand rows at a time."""
    total = start
    for row in range(0, len(array), CRC_ROWS):
        total = zlib.crc32(np.ascontiguousarray(array[row : row + CRC_ROWS]).data, total)
    return total
