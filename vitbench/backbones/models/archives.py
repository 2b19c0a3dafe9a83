"""Checkpoints that are zip archives: looked at whole before anything of them is used."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from vitbench.core.errors import UsageError

# Weights hardly shrink: NumPy and PyTorch store them as they are, and compressed float32 comes to half or more of its size.
MOST_INFLATED = 20
HARMLESS_BYTES = 64 * 2**20  # zeros of small layers may shrink as they like


def refuse_bomb(path: Path) -> None:
    """See that an archive holds about what its size says, and that no member is damaged: PyTorch does not look.

    Raises:
        UsageError: it would unpack to many times its size, or is not as it was written.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            _refuse_size(path, unpacked)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged: {error}; fetch it again") from error
    if damaged is not None:
        raise UsageError(
            f"{path} is damaged: {damaged} has another checksum than it was written with; fetch it again"
        )


def _refuse_size(path: Path, unpacked: int) -> None:
    size = path.stat().st_size
    if unpacked > HARMLESS_BYTES and unpacked > MOST_INFLATED * size:
        raise UsageError(
            f"{path} of {size:,} bytes would unpack to {unpacked:,}: no checkpoint does, it is taken for a zip bomb"
        )
