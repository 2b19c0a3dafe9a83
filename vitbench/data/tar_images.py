"""Images in tar files as webdataset has them: `KEY.jpg` beside `KEY.cls`, read at their offsets."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitbench.core.errors import DataMissingError
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.settings import cache_dir
from vitbench.data.decode import SUFFIXES
from vitbench.data.image_table import ImageTable

IMAGES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
LABEL = ".cls"
INDEX_FORMAT = 1
LONGEST_LABEL = 20  # bytes of a .cls


@dataclass(frozen=True, eq=False)
class TarTable(ImageTable):
    """The images of several tar files, one after another, in the order of their members."""

    @cached_property
    def index(self) -> dict[str, NDArray[Any]]:
        """By image: its `tar`, `offset`, `size`, `label` and `key`; read once and cached until a file changes.

        Raises:
            DataMissingError: a file is no tar file, or an image has no label.
        """
        stats = [
            (file, (self.root / file).stat().st_size, (self.root / file).stat().st_mtime_ns)
            for file in self.files
        ]
        name = digest_bytes(json.dumps([INDEX_FORMAT, str(self.root), stats]).encode())[:32]
        path = cache_dir() / "tars" / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as found:
                return {column: found[column] for column in found.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            made = self._read_index()
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **made)
            write_atomically(path, buffer.getvalue())
            return made

    def _read_index(self) -> dict[str, NDArray[Any]]:
        rows = [
            (number, *row) for number, file in enumerate(self.files) for row in _members(self.root / file)
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        kinds = (np.int64, np.int64, np.int64, np.int64, np.bytes_)
        names = ("tar", "offset", "size", "label", "key")
        return {
            name: np.asarray(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)
        }

    def encoded(self, row: int) -> bytes:
        """An image as it is stored."""
        with (self.root / self.files[int(self.index["tar"][row])]).open("rb") as file:
            file.seek(int(self.index["offset"][row]))
            return file.read(int(self.index["size"][row]))

    def row_name(self, row: int) -> str:
        """The file and the key in it."""
        key = bytes(self.index["key"][row]).decode("utf-8", "backslashreplace")
        return f"{self.files[int(self.index['tar'][row])]}:{key}"


def _members(path: Path) -> list[tuple[int, int, int, bytes]]:
    """Offset, size, label and key of each image of a tar file."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                key, suffix = f"{folder}/{key}", f".{ending.lower()}"
                if suffix in IMAGES:
                    images[key] = (member.offset_data, member.size)
                elif suffix == LABEL and member.size <= LONGEST_LABEL and (held := tar.extractfile(member)):
                    labels[key] = int(held.read())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataMissingError(f"{path} cannot be read as webdataset's tar file: {error}") from error
    if without := [key for key in images if key not in labels]:
        raise DataMissingError(
            f"{path}: {len(without)} images have no {LABEL}, such as {without[0].lstrip('/')}"
        )
    return [(*place, labels[key], key.lstrip("/").encode()) for key, place in images.items()]
