"""Checkpoints that are zip archives: what they would unpack to is looked at before anything is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from vitbench.errors import UsageError

# Weights hardly shrink: NumPy and PyTorch store them as they are, and compressed float32 comes to half or more of its size.
MOST_INFLATED = 20
HARMLESS_BYTES = 64 * 2**20  # zeros of small layers may shrink as they like


def refuse_bomb(path: Path) -> None:
    """See that an archive holds about what its size says.

    Raises:
        UsageError: it would unpack to many times its size.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if unpacked > HARMLESS_BYTES and unpacked > MOST_INFLATED * size:
        raise UsageError(
            f"{path} of {size:,} bytes would unpack to {unpacked:,}: no checkpoint does, it is taken for a zip bomb"
        )
