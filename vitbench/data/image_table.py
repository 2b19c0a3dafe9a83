"""Encoded images in the rows of files, whatever their format, and some of these rows as a source of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitbench.api import ImageSource, Pixels
from vitbench.core.digest import digest_files
from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.files import digest_bytes
from vitbench.data.decode import decoded


@dataclass(frozen=True, eq=False)
class ImageTable(ABC):
    """Files below a root, one after another, with an encoded image in each row."""

    root: Path
    files: tuple[str, ...]

    @abstractmethod
    def encoded(self, row: int) -> bytes:
        """The image of a row as it is stored.

        Raises:
            ValueError: there is none.
        """

    @abstractmethod
    def row_name(self, row: int) -> str:
        """The file and the place in it, as the name of a row."""


@dataclass(frozen=True, eq=False)
class ColumnTable(ImageTable):
    """A table with columns; `column` has the images: bytes, or a struct with `bytes`."""

    column: str

    @property
    @abstractmethod
    def stored_schema(self) -> pa.Schema:
        """The columns of the first file."""

    @abstractmethod
    def rows_of_files(self) -> list[tuple[str, int]]:
        """The files, with how many rows each has."""

    @abstractmethod
    def read(self, column: str) -> list[Any]:
        """The values of a column, of all rows."""

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file.

        Raises:
            UsageError: it has no such column of images.
        """
        found = self.stored_schema
        check_column(self.column, found.names, self.root / self.files[0])
        kind = found.field(self.column).type
        inner = (
            kind.field("bytes").type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            else kind
        )
        if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
            raise UsageError(
                f"{self.root / self.files[0]}: column {self.column!r} holds {kind}, not encoded images"
            )
        return found

    def values(self, column: str) -> list[Any]:
        """The values of another column, of all rows.

        Raises:
            UsageError: there is no such column.
        """
        check_column(column, self.schema.names, self.root / self.files[0])
        return self.read(column)

    @cached_property
    def _first_rows(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The first row of each file, and past the last."""
        return np.cumsum([0, *(rows for _, rows in self.rows_of_files())])

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def row_name(self, row: int) -> str:
        """The file and the position in it."""
        file = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return f"{self.files[file]}[{row - int(self._first_rows[file])}]"


def image_bytes(value: Any) -> bytes:
    """The encoded image in a value of a column of images.

    Raises:
        ValueError: there is none.
    """
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise ValueError(
            "the row has no image" if value is None else "the row names a file instead of an image"
        )
    return bytes(data)


@dataclass(frozen=True, eq=False)
class TableSource(ImageSource):
    """Some rows of a table, in this order."""

    table: ImageTable
    rows: tuple[int, ...]
    exif_rotate: bool
    white: float | None = None  # see decode

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the files, of the rows in order, and of how images are decoded."""
        how = f"{getattr(self.table, 'column', '')} {self.exif_rotate} {self.white}".encode()
        files = digest_files(self.table.root, self.table.files).encode()
        return digest_bytes(files, np.asarray(self.rows, dtype=np.int64).tobytes(), how)

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """Decode the images at these indices.

        Raises:
            BadImageError: some cannot be decoded; it names all of them.
        """
        how = {"exif_rotate": self.exif_rotate, "fast_dct": fast_dct, "white": self.white}
        return decoded(indices, lambda index: self.table.encoded(self.rows[index]), self.name, **how)

    def name(self, index: int) -> str:
        """The file and the row in it."""
        return self.table.row_name(self.rows[index])


def check_column(name: str, known: Sequence[str], path: Path) -> None:
    """Check that a table has a column.

    Raises:
        UsageError: it has not.
    """
    if name not in known:
        what = f"{path} has no column {name!r}, only {', '.join(map(repr, known[:20]))}"
        raise UsageError(Problem(what, nearest=nearest(name, known)))
