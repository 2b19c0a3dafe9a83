"""Images in the rows of Parquet files, read a row group at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitbench.api import ImageSource, Indices, Pixels
from vitbench.core.digest import digest_files
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.files import digest_bytes
from vitbench.data.decode import decoded

GROUPS_HELD = 4  # row groups of images; Hugging Face writes 100 rows to a group


@dataclass(frozen=True, eq=False)
class ParquetTable:
    """The files of one table, one after another; `column` has the images: bytes, or a struct with `bytes`."""

    root: Path
    files: tuple[str, ...]
    column: str
    _held: OrderedDict[tuple[int, int], pa.ChunkedArray] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def _opened(self) -> tuple[pq.ParquetFile, ...]:
        return tuple(_opened(self.root / file) for file in self.files)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file.

        Raises:
            UsageError: it has no such column of images.
        """
        found = self._opened[0].schema_arrow
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

    @cached_property
    def _starts(self) -> tuple[Indices, list[tuple[int, int]]]:
        """The first row of each row group, and past the last; and the file and number of each group."""
        sizes, groups = [], []
        for number, file in enumerate(self._opened):
            for group in range(file.num_row_groups):
                sizes.append(file.metadata.row_group(group).num_rows)
                groups.append((number, group))
        return np.cumsum([0, *sizes]), groups

    def __len__(self) -> int:
        return int(self._starts[0][-1])

    def rows_of_files(self) -> list[tuple[str, int]]:
        """The files, with how many rows each has."""
        return [(name, file.metadata.num_rows) for name, file in zip(self.files, self._opened, strict=True)]

    def values(self, column: str) -> list[Any]:
        """The values of another column, of all rows."""
        check_column(column, self.schema.names, self.root / self.files[0])
        return [value for file in self._opened for value in file.read([column])[column].to_pylist()]

    def file_of(self, row: int) -> str:
        """The file and the position in it, as the name of a row."""
        starts = np.cumsum([0, *(rows for _, rows in self.rows_of_files())])
        file = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{self.files[file]}[{row - int(starts[file])}]"

    def encoded(self, row: int) -> bytes:
        """The image of a row as it is stored.

        Raises:
            ValueError: there is none.
        """
        starts, groups = self._starts
        at = int(np.searchsorted(starts, row, side="right")) - 1
        value = self._group(groups[at])[row - int(starts[at])].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise ValueError(
                "the row has no image" if value is None else "the row names a file instead of an image"
            )
        return bytes(data)

    def _group(self, which: tuple[int, int]) -> pa.ChunkedArray:
        with self._lock:
            if which not in self._held:
                file, group = which
                try:
                    table = self._opened[file].read_row_group(group, [self.column])
                except pa.ArrowException as error:
                    raise ValueError(f"its row group cannot be read: {error}") from error
                self._held[which] = table[self.column]
                while len(self._held) > GROUPS_HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(which)
            return self._held[which]


@dataclass(frozen=True, eq=False)
class ParquetSource(ImageSource):
    """Some rows of a table, in this order."""

    table: ParquetTable
    rows: tuple[int, ...]
    exif_rotate: bool
    white: float | None = None  # see decode

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the files, of the rows in order, and of how images are decoded."""
        how = f"{self.table.column} {self.exif_rotate} {self.white}".encode()
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
        return self.table.file_of(self.rows[index])


def check_column(name: str, known: Sequence[str], path: Path) -> None:
    """Check that a table has a column.

    Raises:
        UsageError: it has not.
    """
    if name not in known:
        what = f"{path} has no column {name!r}, only {', '.join(map(repr, known[:20]))}"
        raise UsageError(Problem(what, nearest=nearest(name, known)))


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataMissingError(f"{path} cannot be read as Parquet: {error}") from error
