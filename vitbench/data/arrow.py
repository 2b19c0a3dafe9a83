"""Images in the rows of Arrow files, mapped into memory: what the Hugging Face library `datasets` saves and caches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vitbench.core.errors import DataMissingError
from vitbench.data.image_table import ColumnTable, image_bytes

FILE_MAGIC = b"ARROW1"  # of files with random access; what `datasets` writes are streams
SPLITS_FILE, STATE_FILE = "dataset_dict.json", "state.json"  # that save_to_disk writes


@dataclass(frozen=True, eq=False)
class ArrowTable(ColumnTable):
    """The files of one table, one after another."""

    @cached_property
    def _tables(self) -> tuple[pa.Table, ...]:
        return tuple(_mapped(self.root / file) for file in self.files)

    @property
    def stored_schema(self) -> pa.Schema:
        """The columns of the first file."""
        return self._tables[0].schema

    def rows_of_files(self) -> list[tuple[str, int]]:
        """The files, with how many rows each has."""
        return [(name, table.num_rows) for name, table in zip(self.files, self._tables, strict=True)]

    def read(self, column: str) -> list[Any]:
        """The values of a column, of all rows."""
        return [value for table in self._tables for value in table[column].to_pylist()]

    @cached_property
    def _images(self) -> pa.ChunkedArray:
        return pa.chunked_array([chunk for table in self._tables for chunk in table[self.column].chunks])

    def encoded(self, row: int) -> bytes:
        """The image of a row as it is stored.

        Raises:
            ValueError: there is none.
        """
        return image_bytes(self._images[row].as_py())


def _mapped(path: Path) -> pa.Table:
    """A file's rows, none of which is read before it is needed."""
    try:
        source = pa.memory_map(str(path))
        is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
        source.seek(0)
        return (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataMissingError(f"{path} cannot be read as Arrow: {error}") from error


def arrow_files(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The root and the Arrow files of a file or folder, those that save_to_disk wrote in its order.

    Raises:
        DataMissingError: there are none.
    """
    if path.is_file():
        return path.parent, (path.name,)
    found = tuple(_saved(path) or sorted(str(file.relative_to(path)) for file in path.rglob("*.arrow")))
    if not found:
        raise DataMissingError(f"{path} contains no .arrow file")
    return path, found


def is_saved(path: Path) -> bool:
    """Whether a folder is what save_to_disk wrote."""
    return (path / SPLITS_FILE).is_file() or (path / STATE_FILE).is_file()


def _saved(path: Path) -> list[str]:
    """The files that save_to_disk lists; [] if it did not write this folder."""
    splits = _listed(path / SPLITS_FILE, "splits")
    folders = [path / str(split) for split in splits] or [path]
    return [str((folder / file).relative_to(path)) for folder in folders for file in _files_of(folder)]


def _files_of(folder: Path) -> Iterator[str]:
    for each in _listed(folder / STATE_FILE, "_data_files"):
        if isinstance(each, dict) and isinstance(each.get("filename"), str):
            yield Path(each["filename"]).name


def _listed(path: Path, name: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return []
    return found if isinstance(found, list) else []
