"""A source of image files in class folders, `ROOT/SPLIT/<class>/*`, and the search for files and unreadable images."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vitbench.api import ImageSource, Indices, Pixels
from vitbench.core.digest import SYSTEM_FOLDERS, digest_files, digest_path, digests_of_files, walk
from vitbench.core.errors import DataMissingError, Problem
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.settings import cache_dir
from vitbench.data.decode import LOSSY, SUFFIXES, BadImageError, decoded
from vitbench.data.named_splits import split_of

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
LOSSY_SUFFIXES = frozenset(suffix for name in LOSSY for suffix in SUFFIXES[name])
DOCUMENTS = (
    ".txt",
    ".md",
    ".json",
    ".csv",
    ".tsv",
    ".xml",
    ".html",
    ".yaml",
    ".yml",
    ".py",
    ".log",
    ".pdf",
    ".mat",
)


@dataclass(frozen=True, eq=False)
class FolderSource(ImageSource):
    """Image files below one root, in the order of `files`, which are relative to it."""

    root: Path
    files: tuple[str, ...]
    exif_rotate: bool
    white: float | None = None  # see decode

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names and contents in order, and of how they are decoded."""
        content = digest_files(self.root, self.files).encode()
        white = [] if self.white is None else [repr(float(self.white)).encode()]
        return digest_bytes(b"exif" if self.exif_rotate else b"plain", content, *white)

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """Decode the images at these indices.

        Raises:
            BadImageError: some cannot be decoded; it names all of them.
        """
        how = {"exif_rotate": self.exif_rotate, "fast_dct": fast_dct, "white": self.white}
        return decoded(indices, lambda index: (self.root / self.files[index]).read_bytes(), self.name, **how)

    def stored_digests(self, indices: Indices) -> Sequence[bytes]:
        """SHA-256 of each file, which the fingerprint has needed too."""
        chosen = [self.files[index] for index in indices.tolist()]
        return [digest.encode() for digest in digests_of_files(self.root, chosen)]

    def name(self, index: int) -> str:
        """The path below the root; bytes that are not UTF-8 are escaped."""
        return self.files[index].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def class_folders(folder: Path) -> list[str]:
    """The names of the class folders, sorted.

    Raises:
        DataMissingError: the folder is missing or has fewer than two.
    """
    if not folder.is_dir():
        raise DataMissingError(
            Problem(
                f"there is no folder {folder}",
                next_step=f"put images at {folder}/<class>/*.jpg, or correct the task's `path`",
            )
        )
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_of_system(entry.name)
    )
    if len(names) < 2:
        raise DataMissingError(f"{folder} holds {len(names)} class folder(s); a task needs at least two")
    return names


def image_files(root: Path, split: str, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Files below ROOT/SPLIT/<class>, relative to root, sorted within each class, and their labels; '' is ROOT/<class>.

    Raises:
        DataMissingError: a class has no training image, or the split has a class that is not among `classes`.
    """
    unknown = sorted(set(class_folders(root / split)) - set(classes))
    if unknown:
        raise DataMissingError(f"{root / split} has classes that train does not have: {unknown[:5]}")
    begin = f"{split}/" if split else ""
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = walk(root / split / name) if (root / split / name).is_dir() else ()
        found = sorted(f"{begin}{name}/{file}" for file in inside if _is_image(file))
        if not found and (not split or split_of(split) == "train"):
            raise DataMissingError(f"{root / split / name} contains no images")
        files += found
        labels += [label] * len(found)
    return files, labels


def _is_image(file: str) -> bool:
    return Path(file).suffix.lower() in IMAGE_SUFFIXES


def split_folders(root: Path) -> dict[str, str]:
    """The folder of each split below a root, by the split's name: `valid`, `Validation` and `dev` are folders of val.

    Without any, folders with images are classes: the root itself, '', is train.

    Raises:
        DataMissingError: a split has two folders.
    """
    found: dict[str, list[str]] = {}
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        if entry.is_dir() and (split := split_of(entry.name)):
            found.setdefault(split, []).append(entry.name)
    for split, folders in found.items():
        if len(folders) > 1:
            raise DataMissingError(f"{root} has several folders of {split}: {', '.join(folders)}; leave one")
    return {split: folders[0] for split, folders in found.items()} or (
        {"train": ""} if _has_classes(root) else {}
    )


def _has_classes(root: Path) -> bool:
    """Whether the folders below a root are classes: each has images right inside, and there are at least two."""
    if not root.is_dir():
        return False
    folders = [entry for entry in root.iterdir() if entry.is_dir() and not _is_of_system(entry.name)]
    return len(folders) > 1 and all(
        any(_is_image(file.name) for file in folder.iterdir()) for folder in folders
    )


def _is_of_system(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_FOLDERS


def digest_of_images(root: Path) -> str:
    """SHA-256 of the names and contents of all files in the folders of splits, of all files where there is none."""
    if not root.is_dir():
        return digest_path(root)
    folders = split_folders(root).values()
    if not folders:
        return digest_path(root)
    files = [
        f"{folder}/{file}" if folder else file for folder in sorted(folders) for file in walk(root / folder)
    ]
    return digest_files(root, files)


def unused_files(root: Path, splits: Iterable[str]) -> str:
    """How many files in these splits' class folders may be images that are not read, by suffix; '' if there are none."""
    counts: Counter[str] = Counter()
    for split in splits:
        inside = (
            Path(file).suffix.lower() for file in walk(root / split) if "/" in file and not _is_image(file)
        )
        counts.update(suffix or "without suffix" for suffix in inside if suffix not in DOCUMENTS)
    listed = ", ".join(f"{suffix} {n}" for suffix, n in counts.most_common())
    return f"{sum(counts.values())} files in class folders are not read: {listed}" if counts else ""


def mixed_formats(files: Iterable[str]) -> str:
    """How many files have which suffix, if some are lossy and others are not; '' otherwise.

    Where formats follow classes or splits, a network can tell these by the traces of compression.
    """
    counts = Counter(Path(file).suffix.lower() for file in files)
    lossy = counts.keys() & LOSSY_SUFFIXES
    if not lossy or lossy == counts.keys():
        return ""
    listed = ", ".join(f"{suffix} {n:,}" for suffix, n in counts.most_common())
    return f"images are stored with and without loss: {listed}"


def unreadable(source: FolderSource) -> list[int]:
    """The indices of files that cannot be decoded, found by decoding all; cached by the source's fingerprint."""
    known = cache_dir() / "unreadable-1" / f"{source.fingerprint}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # missing or damaged: decode all again
        return [int(index) for index in json.loads(known.read_text(encoding="utf-8"))]

    def fails(index: int) -> bool:
        try:
            source.read([index])
        except BadImageError:
            return True
        return False

    with ThreadPoolExecutor() as pool:
        bad = list(pool.map(fails, range(len(source))))
    indices = [i for i, is_bad in enumerate(bad) if is_bad]
    write_atomically(known, json.dumps(indices))
    return indices
