"""A source of image files in class folders, `ROOT/SPLIT/<class>/*`, and the search for files and unreadable images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vitbench.api import ImageSource, Pixels
from vitbench.core.errors import DataMissingError, Problem
from vitbench.core.files import digest_bytes, digest_path, write_atomically
from vitbench.core.settings import cache_dir
from vitbench.data.decode import BadImageError, decode

READ_WHOLE = 50_000  # files: reading more takes longer than listing them
SAMPLED = 2_000
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True, eq=False)
class FolderSource(ImageSource):
    """Image files below one root, in the order of `files`, which are relative to it."""

    root: Path
    files: tuple[str, ...]
    exif_rotate: bool

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names and contents in order; above 50,000 files, of all sizes and a sample of the contents."""
        if len(self.files) > READ_WHOLE:
            spread = self.files[:: len(self.files) // SAMPLED]
            sizes = [(self.root / file).stat().st_size for file in self.files]
            digests = [repr(sizes).encode(), *(digest_path(self.root / file).encode() for file in spread)]
        else:
            digests = [digest_path(self.root / file).encode() for file in self.files]
        names = "\n".join(self.files).encode("utf-8", "surrogateescape")
        return digest_bytes(b"exif" if self.exif_rotate else b"plain", names, *digests)

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """Decode the images at these indices.

        Raises:
            BadImageError: some cannot be decoded; it names all of them.
        """
        images: list[Pixels] = []
        bad: dict[str, str] = {}
        for index in indices:
            try:
                data = (self.root / self.files[index]).read_bytes()
                images.append(decode(data, exif_rotate=self.exif_rotate, fast_dct=fast_dct))
            except (ValueError, OSError) as error:
                bad[self.name(index)] = str(error)
        if bad:
            raise BadImageError(bad, len(indices))
        return images

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
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(names) < 2:
        raise DataMissingError(f"{folder} holds {len(names)} class folder(s); a task needs at least two")
    return names


def image_files(root: Path, split: str, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Files below ROOT/SPLIT/<class>, relative to root, sorted within each class, and their labels.

    Raises:
        DataMissingError: a class has no training image, or the split has a class that is not among `classes`.
    """
    unknown = sorted(set(class_folders(root / split)) - set(classes))
    if unknown:
        raise DataMissingError(f"{root / split} has classes that train does not have: {unknown[:5]}")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            path.relative_to(root).as_posix()
            for path in (root / split / name).rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
        if not found and split == "train":
            raise DataMissingError(f"{root / split / name} contains no images")
        files += found
        labels += [label] * len(found)
    return files, labels


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
