"""The files of a tar archive, read header by header: tarfile checks each in Python, half a minute a million.

The format is POSIX's (pax and ustar) with GNU's long names: https://www.gnu.org/software/tar/manual/html_node/Standard.html.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 512
AHEAD_BYTES = 8192  # a read has a pax header, its data, the header itself and often the next
CHECKED_TOGETHER = 4096  # headers whose checksums are summed at once
FILE_TYPES = frozenset(b"0\0" + b"7")
WITHOUT_DATA = frozenset(b"123456")  # links, devices, directories, pipes, whatever size they state
EXTENSIONS = PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = tuple(b"xgLK")
SPARSE = ord("S")
NAMED = re.compile(rb"path=|size=|GNU\.sparse")  # in a pax header, what changes where files lie
LONGEST_EXTENSION_BYTES = 2**20  # of a damaged header, not to be read as a name


@dataclass
class TarReader:
    """An archive that is open for reading.

    Raises:
        OSError: the archive cannot be read.
        ValueError: while iterating: it is no tar file, is cut short or damaged, or has sparse files.
    """

    path: Path
    _file: int = field(init=False)
    _held: bytes = field(init=False, default=b"")
    _start: int = field(init=False, default=0)

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes at a place, without a call of the system where they lie close behind the last header.

        Raises:
            ValueError: the archive ends before.
        """
        place = offset - self._start
        if place < 0 or place + size > len(self._held):
            self._held, self._start, place = os.pread(self._file, max(size, AHEAD_BYTES), offset), offset, 0
            if len(self._held) < size:
                end = offset + len(self._held)
                raise ValueError(f"it ends at {end} bytes without its mark of the end: is it whole?")
        return self._held[place : place + size]

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        """Name, offset and size (bytes) of each regular file, in order; of millions, so little is done for each."""
        offset, unchecked = 0, list[bytes]()
        stated = dict[bytes, bytes]()  # by headers before the file's own
        while True:
            place = offset - self._start
            header = self._held[place : place + BLOCK_BYTES]
            if len(header) < BLOCK_BYTES:
                header = self.read(offset, BLOCK_BYTES)
            if not header[0] and not any(header):
                break
            unchecked.append(header)
            if offset == 0 or len(unchecked) == CHECKED_TOGETHER:
                _check(unchecked)
                unchecked.clear()
            kind, data = header[156], offset + BLOCK_BYTES
            try:
                size = int(header[124:135], 8)
            except ValueError:
                size = number(header[124:136])
            if kind in EXTENSIONS:
                stated |= _extension(kind, self.read(data, min(size, LONGEST_EXTENSION_BYTES)))
            else:
                if stated or kind not in FILE_TYPES:
                    size = _size(header, kind, stated, size)
                name = stated.get(b"path") or _name(header)
                if kind in FILE_TYPES and name[-1:] != b"/":
                    yield name, data, size
                stated.clear()
            offset = data + (size + BLOCK_BYTES - 1 & -BLOCK_BYTES)
        _check(unchecked)


def _extension(kind: int, data: bytes) -> dict[bytes, bytes]:
    """What a header before a file's own says of it, under pax's keywords."""
    if kind in (PAX, PAX_GLOBAL) and not NAMED.search(data):  # of most, only a time in fractions of seconds
        return {}
    if len(data) == LONGEST_EXTENSION_BYTES:
        raise ValueError("a header states a name of over a million bytes")
    if kind == LONG_NAME:
        return {b"path": data.partition(b"\0")[0]}
    found = {} if kind == LONG_LINK else _pax(data)
    if found and kind == PAX_GLOBAL:
        raise ValueError("a header states one name or size for all files")
    return found


def _size(header: bytes, kind: int, stated: dict[bytes, bytes], size: int) -> int:
    """The size of what follows, where it is not simply what the header states."""
    if kind == SPARSE:
        raise ValueError(f"{_name(header)!r} is a sparse file")
    return 0 if kind in WITHOUT_DATA else int(stated.get(b"size", size))


def number(stored: bytes) -> int:
    """A number of a header: octal digits, or GNU's big-endian bytes behind 0x80.

    Raises:
        ValueError: it is neither.
    """
    if stored[0] == 0x80:
        return int.from_bytes(stored[1:], "big")
    try:
        return int(stored.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise ValueError(f"a header has {stored!r} where a number belongs") from None


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The name and the size of a pax header, of whose `LENGTH KEY=VALUE` lines most have only times."""
    if b"GNU.sparse" in data:
        raise ValueError("it has sparse files")
    found = {}
    while data.rstrip(b"\0"):
        length = int(data.partition(b" ")[0])
        if not 0 < length <= len(data) or data[length - 1 : length] != b"\n":
            raise ValueError("a pax header is damaged")
        key, _, value = data[: length - 1].partition(b" ")[2].partition(b"=")
        if key in (b"path", b"size"):
            found[key] = value
        data = data[length:]
    return found


def _check(headers: list[bytes]) -> None:
    """Hold headers to their checksums: the sum of their bytes, with the sum's own field as spaces.

    Raises:
        ValueError: one differs.
    """
    if not headers:
        return
    table = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, BLOCK_BYTES)
    differs = _sums(table) != _octal(table[:, 148:154])
    for header, row in zip(compress(headers, differs), table[differs], strict=True):
        if number(header[148:156]) not in (*_sums(row[None]), *_sums(row[None].view(np.int8))):
            raise ValueError(f"the header of {_name(header)!r} differs from its checksum")


def _octal(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers (N,) of six octal digits (N, 6), as nearly all writers have them; of others, some other number."""
    return (digits.astype(np.int64) - ord("0")) @ 8 ** np.arange(5, -1, -1)


def _sums(table: NDArray[Any]) -> NDArray[np.int32]:
    """Checksums (N,) of headers (N, 512), whose bytes some writers took as signed."""
    return np.asarray(table.sum(1, np.int32) - table[:, 148:156].sum(1, np.int32) + 8 * ord(" "))
