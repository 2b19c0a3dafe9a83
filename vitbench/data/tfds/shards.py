"""The records of a slice by position, across the files that hold them, of which few are open at once.

TFDS itself says which files, and which records of each, make up a slice (`info.splits[spec].file_instructions`).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitbench.core.errors import VitbenchError
from vitbench.data.tfds.shard_file import ShardFile


@dataclass(frozen=True)
class Stretch:
    """Consecutive records of one file: `take` of its `of` records, after the first `skip`."""

    path: Path
    skip: int
    take: int
    of: int


MOST_OPEN = 64  # files, of all data sets together: ImageNet has as many as a process may open
_open: OrderedDict[tuple[Path, int, int, int], ShardFile] = OrderedDict()
_open_lock = threading.Lock()


def opened(kind: type[ShardFile], stretch: Stretch) -> ShardFile:
    """The file of a stretch, which stays open for the next reader unless 64 files have been used since."""
    try:
        status = stretch.path.stat()
    except OSError as error:
        raise VitbenchError(f"{stretch.path} cannot be read: {error.strerror}") from error
    key = (stretch.path, stretch.of, status.st_size, status.st_mtime_ns)
    with _open_lock:
        file = _open.pop(key, None)
        if file is None or file.process != os.getpid() or not isinstance(file, kind):
            file = kind(stretch.path, stretch.of)
        _open[key] = file
        while len(_open) > MOST_OPEN:
            _open.popitem(last=False)
        return file


@dataclass(frozen=True, eq=False)
class Shards:
    """The records of several stretches, numbered consecutively."""

    stretches: tuple[Stretch, ...]
    kind: type[ShardFile]

    def __len__(self) -> int:
        return sum(stretch.take for stretch in self.stretches)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(stretch.take for stretch in self.stretches)])

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions; each file is read once.

        Raises:
            DamagedFileError: a file is truncated or corrupted.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(
                f"positions {wanted.min()} to {wanted.max()} are not all within {len(self)} records"
            )
        which = np.searchsorted(self._starts, wanted, side="right") - 1
        records: list[bytes] = [b""] * len(wanted)
        for shard in np.unique(which):
            stretch = self.stretches[shard]
            rows = np.flatnonzero(which == shard)
            inside = (wanted[rows] - self._starts[shard] + stretch.skip).tolist()
            for row, record in zip(rows, opened(self.kind, stretch).read(inside), strict=True):
                records[row] = record
        return records
