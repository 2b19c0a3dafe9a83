"""Records of prepared TFDS files by position: array_record and tfrecord, without TensorFlow, in the same order.

Which files, and which records of each, is TFDS's own answer (`info.splits[spec].file_instructions`). Reading is safe from
several threads; array_record crashes under fork, so readers open late and refuse to be used in a child process.
"""

from __future__ import annotations

import mmap
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitbench.core.errors import VitbenchError
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.settings import cache_dir

LENGTH_BYTES = 8  # tfrecord: length u64 | crc of length u32 | data | crc of data u32, all little-endian
CRC_BYTES = 4
HEADER_BYTES = LENGTH_BYTES + CRC_BYTES
INDEX_FORMAT = 1
RANDOM_ACCESS = (
    "readahead_buffer_size:0,max_parallelism:0"  # reading ahead costs a fifth, and threads of its own
)


class DamagedFileError(VitbenchError):
    """A prepared file is truncated or corrupted; the message names the file and where in it."""


@dataclass(frozen=True)
class Stretch:
    """`take` records of one file, which holds `of`, after the first `skip`."""

    path: Path
    skip: int
    take: int
    of: int


class ShardFile(ABC):
    """One prepared file, which should hold `count` records."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count = count
        self.process = os.getpid()

    def check_readable(self) -> None:
        """See that the system lets us read the file: what it says is not what a reader makes of it.

        Raises:
            VitbenchError: with the system's own reason.
        """
        try:
            self.path.open("rb").close()
        except OSError as error:
            raise VitbenchError(f"{self.path} cannot be read: {error.strerror}") from error

    def check_count(self, found: int) -> None:
        """See that the file holds what it should; a file cut short can look whole to its reader.

        Raises:
            DamagedFileError: it does not.
        """
        if found != self.count:
            size = self.path.stat().st_size
            raise DamagedFileError(
                f"{self.path}: truncated or exchanged: {found} of {self.count} records in its {size:,} bytes"
            )

    def check_process(self) -> None:
        """Refuse to go on in a forked child: array_record would crash it (facts/data_layer.md 0.3).

        Raises:
            VitbenchError: this is not the process that opened the file.
        """
        if os.getpid() != self.process:
            raise VitbenchError(
                f"{self.path} was opened in another process: start workers with spawn or forkserver, or read in threads"
            )

    @abstractmethod
    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions of the file.

        Raises:
            DamagedFileError: one cannot be read.
        """


class ArrayRecordFile(ShardFile):
    """A file of the array_record library."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path, count)
        self.lock = threading.Lock()

    @cached_property
    def _reader(self) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        self.check_readable()
        try:
            reader = ArrayRecordReader(str(self.path), RANDOM_ACCESS)
            found = int(reader.num_records())
        except (RuntimeError, ValueError) as error:
            size = self.path.stat().st_size if self.path.is_file() else 0
            raise DamagedFileError(
                f"{self.path}: no array_record file in its {size:,} bytes: {error}"
            ) from error
        self.check_count(found)
        return reader

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions; see `ShardFile.read`."""
        self.check_process()
        with self.lock:
            reader = self._reader
        try:
            # One by one: asked for several at once the library hands them to threads of its own, at twice the processor time.
            return [reader.read([position])[0] for position in positions]
        except (RuntimeError, ValueError, IndexError) as error:
            raise DamagedFileError(
                f"{self.path}: damaged at record {self._first_bad(positions)}: {error}"
            ) from error

    def _first_bad(self, positions: Sequence[int]) -> int:
        for position in sorted(positions):
            try:
                self._reader.read([position])
            except (RuntimeError, ValueError, IndexError):
                return position
        return min(positions)


class TFRecordFile(ShardFile):
    """A tfrecord file, mapped into memory, with the offsets of its records found once and kept in the cache."""

    @cached_property
    def _map(self) -> mmap.mmap:
        self.check_readable()
        if self.path.stat().st_size == 0:
            raise self._damage(0, "there is nothing in it")
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Where each record's data begins and ends, (N, 2)."""
        status = self.path.stat()
        facts = f"{INDEX_FORMAT} {self.path.resolve()} {status.st_size} {status.st_mtime_ns}"
        kept = cache_dir() / "tfrecord-index" / f"{digest_bytes(facts.encode())[:32]}.npy"
        try:
            found: NDArray[np.int64] = np.load(kept, allow_pickle=False)
        except Exception:  # noqa: BLE001  a damaged header raises anything; the file is walked again
            found = self._walk()
            write_atomically(kept, _npy(found))
        self.check_count(len(found))
        return found

    def _walk(self) -> NDArray[np.int64]:
        data, size = self._map, len(self._map)
        found: list[tuple[int, int]] = []
        offset = 0
        while offset < size:
            start = offset + HEADER_BYTES
            header = data[offset:start]
            if len(header) < HEADER_BYTES or masked_crc32c(header[:LENGTH_BYTES]) != _u32(
                header[LENGTH_BYTES:]
            ):
                raise self._damage(offset, "no record begins there")
            stop = start + int.from_bytes(header[:LENGTH_BYTES], "little")
            offset = stop + CRC_BYTES
            if offset > size:
                raise self._damage(start, f"the file ends at {size:,}, the record at {offset:,}")
            found.append((start, stop))
        return np.asarray(found, dtype=np.int64).reshape(-1, 2)

    def _damage(self, offset: int, why: str) -> DamagedFileError:
        return DamagedFileError(f"{self.path}: truncated or corrupted at byte {offset:,}: {why}")

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions, checksums compared; see `ShardFile.read`."""
        records = []
        for position in positions:
            start, stop = map(int, self._offsets[position])
            record = self._map[start:stop]
            if masked_crc32c(record) != _u32(self._map[stop : stop + CRC_BYTES]):
                raise self._damage(start, f"the checksum of record {position} does not match")
            records.append(record)
        return records


MOST_OPEN = 64  # files at once, of all data sets together: ImageNet's train has as many as a process may open
_open: OrderedDict[tuple[Path, int, int, int], ShardFile] = OrderedDict()
_open_lock = threading.Lock()


def opened(kind: type[ShardFile], stretch: Stretch) -> ShardFile:
    """The file of a stretch, kept open for the next reader; the one used longest ago closes when nobody reads it any more."""
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


FORMATS: dict[str, type[ShardFile]] = {"array_record": ArrayRecordFile, "tfrecord": TFRecordFile}


@dataclass(frozen=True, eq=False)
class Shards:
    """Stretches of files, one after another: records by position over all of them."""

    stretches: tuple[Stretch, ...]
    kind: type[ShardFile]

    def __len__(self) -> int:
        return sum(stretch.take for stretch in self.stretches)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(stretch.take for stretch in self.stretches)])

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions, each file asked once.

        Raises:
            DamagedFileError: a file is truncated or corrupted.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"positions {wanted.min()} to {wanted.max()} of {len(self)} records")
        which = np.searchsorted(self._starts, wanted, side="right") - 1
        records: list[bytes] = [b""] * len(wanted)
        for shard in np.unique(which):
            stretch = self.stretches[shard]
            rows = np.flatnonzero(which == shard)
            inside = (wanted[rows] - self._starts[shard] + stretch.skip).tolist()
            for row, record in zip(rows, opened(self.kind, stretch).read(inside), strict=True):
                records[row] = record
        return records


def masked_crc32c(data: bytes) -> int:
    """The checksum that tfrecord files carry: CRC-32C, rotated and shifted."""
    import google_crc32c

    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _u32(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _npy(array: NDArray[np.int64]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
