"""One file of a prepared data set, in the array_record or tfrecord format: its records by position, without TensorFlow.

Several threads may read a file. array_record crashes under fork, so files are opened at the first read and refuse to be read
in a forked child.
"""

from __future__ import annotations

import io
import mmap
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    "readahead_buffer_size:0,max_parallelism:0"  # reading ahead is a fifth slower and starts threads
)


class DamagedFileError(VitbenchError):
    """A prepared file is truncated or corrupted; the message names the file and the position in it."""


class ShardFile(ABC):
    """One prepared file, expected to hold `count` records."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.count = count
        self.process = os.getpid()

    def check_readable(self) -> None:
        """Check that the file can be opened, because the readers do not report why it cannot.

        Raises:
            VitbenchError: it cannot; the message has the operating system's reason.
        """
        try:
            self.path.open("rb").close()
        except OSError as error:
            raise VitbenchError(f"{self.path} cannot be read: {error.strerror}") from error

    def check_count(self, found: int) -> None:
        """Check the number of records: a truncated file can look complete to its reader.

        Raises:
            DamagedFileError: it is not the expected number.
        """
        if found != self.count:
            size = self.path.stat().st_size
            raise DamagedFileError(
                f"{self.path}: truncated or replaced: {found} of {self.count} records in its {size:,} bytes"
            )

    def check_process(self) -> None:
        """Refuse to read in a forked child, which array_record would crash (docs/protocols.md#tfds-files).

        Raises:
            VitbenchError: this is not the process that opened the file.
        """
        if os.getpid() != self.process:
            raise VitbenchError(
                f"{self.path} was opened in another process: start workers by spawn or forkserver, or read in threads"
            )

    @abstractmethod
    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions.

        Raises:
            DamagedFileError: one of them cannot be read.
        """


class ArrayRecordFile(ShardFile):
    """A file in the array_record format, read by its library."""

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
                f"{self.path} ({size:,} bytes) is not an array_record file: {error}"
            ) from error
        self.check_count(found)
        return reader

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions; see `ShardFile.read`."""
        self.check_process()
        with self.lock:
            reader = self._reader
        try:
            # One by one: for several at once the library starts threads, which take twice the processor time.
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
    """A file in the tfrecord format, memory-mapped; the offsets of its records are found once and cached on disk."""

    @cached_property
    def _map(self) -> mmap.mmap:
        self.check_readable()
        if self.path.stat().st_size == 0:
            raise self._damage(0, "the file is empty")
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """The first byte of each record's data and the byte after its last, (N, 2)."""
        status = self.path.stat()
        facts = f"{INDEX_FORMAT} {self.path.resolve()} {status.st_size} {status.st_mtime_ns}"
        kept = cache_dir() / "tfrecord-index" / f"{digest_bytes(facts.encode())[:32]}.npy"
        try:
            found: NDArray[np.int64] = np.load(kept, allow_pickle=False)
        except Exception:  # noqa: BLE001  a damaged index raises anything; find the offsets again
            found = self._find_offsets()
            write_atomically(kept, _npy(found))
        self.check_count(len(found))
        return found

    def _find_offsets(self) -> NDArray[np.int64]:
        data, size = self._map, len(self._map)
        found: list[tuple[int, int]] = []
        offset = 0
        while offset < size:
            start = offset + HEADER_BYTES
            header = data[offset:start]
            if len(header) < HEADER_BYTES or masked_crc32c(header[:LENGTH_BYTES]) != _u32(
                header[LENGTH_BYTES:]
            ):
                raise self._damage(offset, "no record starts there")
            stop = start + int.from_bytes(header[:LENGTH_BYTES], "little")
            offset = stop + CRC_BYTES
            if offset > size:
                raise self._damage(start, f"the record ends at byte {offset:,}, the file at {size:,}")
            found.append((start, stop))
        return np.asarray(found, dtype=np.int64).reshape(-1, 2)

    def _damage(self, offset: int, why: str) -> DamagedFileError:
        return DamagedFileError(f"{self.path}: truncated or corrupted at byte {offset:,}: {why}")

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """The records at these positions, after checking their checksums; see `ShardFile.read`."""
        records = []
        for position in positions:
            start, stop = map(int, self._offsets[position])
            record = self._map[start:stop]
            if masked_crc32c(record) != _u32(self._map[stop : stop + CRC_BYTES]):
                raise self._damage(start, f"the checksum of record {position} does not match")
            records.append(record)
        return records


FORMATS: dict[str, type[ShardFile]] = {"array_record": ArrayRecordFile, "tfrecord": TFRecordFile}


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    import google_crc32c

    return int(google_crc32c.value(data))


def masked_crc32c(data: bytes) -> int:
    """The checksum of the tfrecord format: CRC-32C, rotated and shifted."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _u32(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _npy(array: NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
