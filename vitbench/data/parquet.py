"""Images in the rows of Parquet files, read a row group at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitbench.api import Indices
from vitbench.core.errors import DataMissingError
from vitbench.data.image_table import ColumnTable, image_bytes

GROUPS_HELD = 4  # row groups of images; Hugging Face writes 100 rows to a group


@dataclass(frozen=True, eq=False)
class ParquetTable(ColumnTable):
    """The files of one table, one after another."""

    _held: OrderedDict[tuple[int, int], pa.ChunkedArray] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def _opened(self) -> tuple[pq.ParquetFile, ...]:
        return tuple(_opened(self.root / file) for file in self.files)

    @property
    def stored_schema(self) -> pa.Schema:
        """The columns of the first file."""
        return self._opened[0].schema_arrow

    @cached_property
    def _starts(self) -> tuple[Indices, list[tuple[int, int]]]:
        """The first row of each row group, and past the last; and the file and number of each group."""
        sizes, groups = [], []
        for number, file in enumerate(self._opened):
            for group in range(file.num_row_groups):
                sizes.append(file.metadata.row_group(group).num_rows)
                groups.append((number, group))
        return np.cumsum([0, *sizes]), groups

    def rows_of_files(self) -> list[tuple[str, int]]:
        """The files, with how many rows each has."""
        return [(name, file.metadata.num_rows) for name, file in zip(self.files, self._opened, strict=True)]

    def read(self, column: str) -> list[Any]:
        """The values of a column, of all rows."""
        return [value for file in self._opened for value in file.read([column])[column].to_pylist()]

    def encoded(self, row: int) -> bytes:
        """The image of a row as it is stored.

        Raises:
            ValueError: there is none.
        """
        starts, groups = self._starts
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return image_bytes(self._group(groups[at])[row - int(starts[at])].as_py())

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


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataMissingError(f"{path} cannot be read as Parquet: {error}") from error
