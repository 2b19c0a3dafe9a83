"""Refuse damaged zip archives and zip bombs before a checkpoint (.npz, .pth) is read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from vitbench.core.errors import UsageError

# NumPy and PyTorch store weights uncompressed, and compressed float32 weights keep half of their size or more.
MOST_INFLATED = 20
HARMLESS_BYTES = 64 * 2**20  # small files of zeros may compress further


def refuse_bomb(path: Path) -> None:
    """Refuse a zip archive that unpacks to many times its size or is damaged; PyTorch checks neither. Other files pass.

    Raises:
        UsageError: the archive is a zip bomb or damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            _refuse_size(path, unpacked)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise UsageError(f"{path} is damaged: {error}; download or copy it again") from error
    if damaged is not None:
        raise UsageError(
            f"{path} is damaged: {damaged} has another checksum than recorded; download or copy it again"
        )


def _refuse_size(path: Path, unpacked: int) -> None:
    size = path.stat().st_size
    if unpacked > HARMLESS_BYTES and unpacked > MOST_INFLATED * size:
        raise UsageError(
            f"{path} is refused as a zip bomb: {size:,} bytes would unpack to {unpacked:,}; weights do not compress that much"
        )
