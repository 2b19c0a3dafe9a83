"""Images in tar files as webdataset has them: `KEY.jpg` beside `KEY.cls`, read at their offsets."""

from __future__ import annotations

import io
import json
import zipfile
from array import array
from collections import Counter
from dataclasses import dataclass, field
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
from vitbench.data.tar_headers import TarReader

IMAGES = frozenset(suffix.encode() for suffixes in SUFFIXES.values() for suffix in suffixes)
LABEL = b".cls"
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
        rows = _Rows()
        for number, file in enumerate(self.files):
            rows.add(number, self.root / file)
        return {
            **{name: np.asarray(column) for name, column in rows.numbers.items()},
            "key": np.asarray(rows.keys, np.bytes_),
        }

    def encoded(self, row: int) -> bytes:
        """An image as it is stored."""
        with (self.root / self.files[int(self.index["tar"][row])]).open("rb") as file:
            file.seek(int(self.index["offset"][row]))
            return file.read(int(self.index["size"][row]))

    def row_name(self, row: int) -> str:
        """The file and the key in it."""
        return f"{self.files[int(self.index['tar'][row])]}:{_text(bytes(self.index['key'][row]))}"


@dataclass(eq=False)
class _Rows:
    """The images found so far: a million of them in columns, not in a million objects."""

    keys: list[bytes] = field(default_factory=list)
    numbers: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("q") for name in ("tar", "offset", "size", "label")}
    )

    def add(self, number: int, path: Path) -> None:
        """Take the images of one file, the `number`th.

        Raises:
            DataMissingError: it is no tar file, a key has two images or two labels, or one without the other.
        """
        keys, labelled, labels = list[bytes](), list[bytes](), array("q")
        try:
            with TarReader(path) as tar:
                for name, offset, size in tar:
                    key, ending = _key(name)
                    if ending in IMAGES:
                        keys.append(key)
                        self.numbers["offset"].append(offset)
                        self.numbers["size"].append(size)
                    elif ending == LABEL and size <= LONGEST_LABEL:
                        labelled.append(key)
                        labels.append(int(tar.read(offset, size)))
            self.numbers["label"].extend(_of_keys(keys, labelled, labels))
        except (OSError, ValueError) as error:
            raise DataMissingError(f"{path} cannot be read as webdataset's tar file: {error}") from error
        self.numbers["tar"].extend([number] * len(keys))
        self.keys.extend(keys)


def _of_keys(keys: list[bytes], labelled: list[bytes], labels: array[int]) -> array[int]:
    """The labels of keys, which are in the same order where a writer wrote pairs.

    Raises:
        ValueError: a key has two images or two labels, or one without the other.
    """
    for found, what in ((keys, "images"), (labelled, "labels")):
        if len(set(found)) < len(found):
            twice = next(key for key, times in Counter(found).items() if times > 1)
            raise ValueError(f"{_text(twice)} has two {what}")
    if keys == labelled:
        return labels
    for some, others, what in (
        (keys, labelled, "images have no .cls"),
        (labelled, keys, "labels (.cls) have no image"),
    ):
        if lonely := set(some) - set(others):
            raise ValueError(f"{len(lonely)} {what}, such as {_text(min(lonely))}")
    by_key = dict(zip(labelled, labels, strict=True))
    return array("q", [by_key[key] for key in keys])


def _key(name: bytes) -> tuple[bytes, bytes]:
    """The key of a member, up to the first dot behind its folder, and the rest in lower case."""
    if (end := name.find(b".", name.rfind(b"/") + 1)) < 0:
        return name, b""
    return name[:end].lstrip(b"/"), name[end:].lower()


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
