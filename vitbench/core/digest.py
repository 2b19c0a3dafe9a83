"""Digests of files and folders: of all that a reader reads, found by the same walk, whatever the size.

Reading 150 GB takes minutes, so a digest is cached under the state of its files: names, sizes, times of change and inodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.format import file_size
from vitbench.core.settings import cache_dir

CACHED_FROM_BYTES = 16 * 2**20  # less is read again each time: it takes no longer than looking the digest up
SAID_FROM_BYTES = 2 * 2**30  # reading more takes seconds
# Folders and files that systems and programs put beside data.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__pycache__"}
)
SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini", "Desktop.ini"})


@dataclass(frozen=True)
class _File:
    """A file below a root, and the state that changes when its content does."""

    name: str
    path: str
    size_bytes: int
    state: tuple[int, ...]


def walk(folder: Path) -> Iterator[str]:
    """Names of all regular files below a folder, relative to it, in the order of their parts.

    Links are followed, with a guard against loops. Hidden and system files and folders are left out, as are pipes and devices.
    """
    yield from (file.name for file in _files(folder))


def _files(folder: Path) -> Iterator[_File]:
    yield from _below(os.fspath(folder), "", frozenset())


def _below(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[_File]:
    facts = os.stat(folder)  # noqa: PTH116  names that are no UTF-8 stay what they are
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS or entry.name in SYSTEM_FILES:
            continue
        try:
            facts = entry.stat()
        except OSError:  # a link that leads nowhere
            continue
        if stat.S_ISDIR(facts.st_mode):
            yield from _below(entry.path, f"{prefix}{entry.name}/", above | {here})
        elif stat.S_ISREG(facts.st_mode):
            yield _File(f"{prefix}{entry.name}", entry.path, facts.st_size, _state(facts))


def _state(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev


def folder_state(folder: Path) -> str:
    """A digest of the names, sizes and times of all files in a folder: it changes when one of them may have changed."""
    return _state_digest(list(_files(folder)))


def _state_digest(files: Sequence[_File]) -> str:
    return digest_bytes(*(repr((os.fsencode(file.name), file.state)).encode() for file in files))


def digest_path(path: Path) -> str:
    """SHA-256 of a file's content, or of the names and contents of all files that `walk` finds in a folder.

    Raises:
        OSError: a file cannot be read.
    """
    if path.is_file():
        facts = path.stat()
        (digest,) = _digests([_File(path.name, os.fspath(path), facts.st_size, _state(facts))], path)
        return digest
    files = list(_files(path))
    return _combined([file.name for file in files], _digests(files, path))


def digest_files(root: Path, names: Sequence[str]) -> str:
    """SHA-256 of the names and contents of these files below a root, in their order.

    Raises:
        OSError: a file cannot be read.
    """
    return _combined(names, digests_of_files(root, names))


def digests_of_files(root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each of these files below a root.

    Raises:
        OSError: a file cannot be read.
    """
    files = []
    for name in names:
        facts = (root / name).stat()
        files.append(_File(name, os.fspath(root / name), facts.st_size, _state(facts)))
    return _digests(files, root)


def _combined(names: Sequence[str], digests: Sequence[str]) -> str:
    parts = (
        part
        for name, digest in zip(names, digests, strict=True)
        for part in (os.fsencode(name), digest.encode())
    )
    return digest_bytes(*parts)


def _digests(files: Sequence[_File], path: Path) -> list[str]:
    """The digest of each file's content, from the cache if no file has changed since."""
    total_bytes = sum(file.size_bytes for file in files)
    if total_bytes < CACHED_FROM_BYTES:
        return [_digest(file.path) for file in files]
    cached = cache_dir() / "digests-1" / f"{_state_digest(files)}.txt"
    with contextlib.suppress(OSError):
        known = cached.read_text(encoding="ascii").split()
        if len(known) == len(files):
            return known
    if total_bytes > SAID_FROM_BYTES:
        sys.stderr.write(f"reading {file_size(total_bytes)} of {path} once, for its digest …\n")
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, [file.path for file in files]))
    if all(_state(os.stat(file.path)) == file.state for file in files):  # noqa: PTH116
        with contextlib.suppress(OSError):  # a full disk: it is read again next time
            write_atomically(cached, "\n".join(digests))
    return digests


def _digest(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123  names that are no UTF-8 stay what they are
        return hashlib.file_digest(file, "sha256").hexdigest()
