"""Reading and writing files: atomically, with a checksum where damage must be found."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

MOST_READ_BYTES = 256 * 2**20  # a hundred times the largest record, plan or heartbeat
HEX_DIGITS = 64  # of a SHA-256
# Read once: it can only be read by setting it, which files that other threads create meanwhile would feel.
UMASK = os.umask(0o077)
os.umask(UMASK)


def read_file(path: Path | str) -> bytes:
    """The content of a regular file; refuses pipes and devices, which could block, and files that vitbench cannot have written.

    Raises:
        OSError: it cannot be read, is not a regular file, or is too large.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if facts.st_size > MOST_READ_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe is opened whether anybody writes to it or not."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content`, text as UTF-8, to a temporary file beside `path`, flush it to disk, and rename it to `path`.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    _write_named(path, (content.encode("utf-8") if isinstance(content, str) else content,))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines as UTF-8 like `write_atomically`, without holding them all in memory.

    Raises:
        OSError: they cannot be written; the error names `path`.
    """
    _write_named(path, (f"{line}\n".encode() for line in lines))


def _write_named(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    try:
        _write(path, parts)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_checked(path: Path, content: bytes | memoryview) -> None:
    """Write `content` atomically after a line with its SHA-256, for `read_checked`.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    _write_named(path, (_digest_line(content), content))


def read_checked(path: Path) -> bytes:
    """The content that `write_checked` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: its content is not what was written.
    """
    with path.open("rb") as file:
        line, content = file.read(HEX_DIGITS + 1), file.read()
    if line != _digest_line(content):
        raise ValueError(f"{path} is truncated, edited or damaged: its content does not match its SHA-256")
    return content


def _digest_line(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii") + b"\n"


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~UMASK)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 over length-prefixed parts, as hex."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()
