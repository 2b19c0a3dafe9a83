"""A folder of images as a task, without code: `{name: my_pets, source: folder, path: /data/pets}` in a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vitbench.api import Split, Task, TestSet
from vitbench.core.entry import Added
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import register_task
from vitbench.data.image_folder import (
    FolderSource,
    class_folders,
    digest_of_images,
    image_files,
    mixed_formats,
    split_folders,
    unreadable,
    unused_files,
)
from vitbench.data.named_splits import classes_without, cut_from_train, with_missing_cut
from vitbench.data.wide_images import remark_on

Fraction = Annotated[float, Field(gt=0, lt=0.9)]
TestSetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]  # it names files


@register_task("folder", version=2, digest=digest_of_images, group="folder", source="your own images")
def folder(  # noqa: PLR0913  each is an option of a suite
    path: Path,
    on_bad_image: Literal["stop", "skip"] = "stop",
    exif_rotate: bool = True,
    split_seed: int = 0,
    val_share: Fraction = 0.1,
    test_share: Fraction = 0.2,
    white: Annotated[float, Field(gt=0)] | None = None,
    test_sets: Annotated[dict[TestSetName, Path] | None, Added()] = None,
) -> Task:
    """Images in PATH/train/<class>/*; val/ (or valid/, validation/) and test/ likewise, or random fractions of train.

    Args:
        path: the folder that holds train/.
        on_bad_image: stop at, or skip, images that cannot be decoded.
        exif_rotate: rotate images by their EXIF orientation.
        split_seed: seed of the split, where val/ or test/ is missing.
        val_share: fraction of train for validation if there is no val/.
        test_share: fraction of train for test if there is no test/.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        test_sets: by name, folders with class folders of other images, which are scored from the same model; one that lacks
            some of the classes is scored among those that it has.

    Raises:
        UsageError: the fractions leave no training images.
        DataMissingError: a folder or the images of a class are missing.
    """
    if val_share + test_share >= 1:
        raise UsageError(f"val_share {val_share} and test_share {test_share} leave no training images")
    shares = {"val": val_share, "test": test_share}
    decoding = Decoding(skip=on_bad_image == "skip", exif_rotate=exif_rotate, white=white)
    task = FolderTask(path, decoding, seed=split_seed, shares=shares)
    task.further = tuple(task.test_set(name, place) for name, place in (test_sets or {}).items())
    return task


@dataclass(frozen=True)
class Decoding:
    """How images are decoded, and whether those that cannot be are left out."""

    skip: bool
    exif_rotate: bool
    white: float | None


class FolderTask(Task):
    """The task of one folder. Files are listed on construction, so missing ones are reported before anything runs."""

    def __init__(self, path: Path, decoding: Decoding, *, seed: int, shares: Mapping[str, float]) -> None:
        self.path, self.decoding = path, decoding
        self._folders = split_folders(path)
        self.class_names = tuple(class_folders(path / self._folders.get("train", "train")))
        self._skipped: list[str] = []
        self._splits = self._cut(seed, shares)

    def train(self) -> Split:
        """The images of `train/`, without those split off for val and test."""
        return self._splits["train"]

    def val(self) -> Split:
        """The images of `val/`, or a fraction of train."""
        return self._splits["val"]

    def test(self) -> Split:
        """The images of `test/`, or a fraction of train."""
        return self._splits["test"]

    def skipped(self) -> tuple[str, ...]:
        """Names of the images that were skipped because they cannot be decoded."""
        return tuple(self._skipped)

    def departures(self) -> tuple[str, ...]:
        """Files that lie in class folders and are not read."""
        unused = unused_files(self.path, self._folders.values())
        return (unused,) if unused else ()

    def remarks(self) -> tuple[str, ...]:
        """Splits cut from train, classes without an image, lossy formats beside others, and how wide images are read."""
        files = [file for split in self._splits.values() for file in _files_of(split)]
        found = [
            classes_without(self._splits[name].labels.tolist(), self.class_names, name)
            for name in ("val", "test")
        ]
        cut = cut_from_train(self._folders, {name: len(split) for name, split in self._splits.items()})
        found += [cut, mixed_formats(files)]
        return tuple(filter(None, [*found, remark_on(self._source(files))]))

    def test_set(self, name: str, path: Path) -> TestSet:
        """Another folder as a further test set: class folders named as this task's are, all of them or some.

        Raises:
            DataMissingError: it has none, or one of another class.
        """
        if unknown := sorted(set(own := class_folders(path)) - set(self.class_names)):
            raise DataMissingError(f"{path} has classes that train does not have: {unknown[:5]}")
        labels = tuple(sorted(self.class_names.index(each) for each in own))
        classes = None if len(labels) == len(self.class_names) else labels
        return TestSet(name, {"": partial(self._open, path, own)}, classes, dataset=path.name)

    def _open(self, path: Path, own: Sequence[str]) -> Split:
        files, places = image_files(path, "", own)
        labels = [self.class_names.index(own[place]) for place in places]
        source = FolderSource(path, tuple(files), self.decoding.exif_rotate, self.decoding.white)
        return Split(source, np.arange(len(files)), np.asarray(labels, dtype=np.int64))

    def _cut(self, seed: int, shares: Mapping[str, float]) -> dict[str, Split]:
        """Return the splits by name; those without a folder are taken from train. Each source holds only its split's files."""
        found = {name: self._read(folder) for name, folder in self._folders.items()}
        for name, (files, _) in found.items():
            if not files:
                raise DataMissingError(
                    f"{self.path / self._folders[name]} contains no images in class folders"
                )
        return {name: self._split(*listed) for name, listed in with_missing_cut(found, shares, seed).items()}

    def _split(self, files: list[str], labels: list[int]) -> Split:
        return Split(self._source(files), np.arange(len(files)), np.asarray(labels, dtype=np.int64))

    def _source(self, files: Sequence[str]) -> FolderSource:
        return FolderSource(self.path, tuple(files), self.decoding.exif_rotate, self.decoding.white)

    def _read(self, name: str) -> tuple[list[str], list[int]]:
        files, labels = image_files(self.path, name, self.class_names)
        if not self.decoding.skip:
            return files, labels
        whole = self._source(files)
        bad = set(unreadable(whole))
        self._skipped.extend(whole.name(i) for i in sorted(bad))
        kept = [i for i in range(len(files)) if i not in bad]
        emptied = sorted(set(labels) - {labels[i] for i in kept})
        if emptied and name == self._folders["train"]:
            classes = ", ".join(self.class_names[i] for i in emptied)
            raise DataMissingError(f"{self.path / name}: no image can be decoded of: {classes}")
        return [files[i] for i in kept], [labels[i] for i in kept]


def _files_of(split: Split) -> tuple[str, ...]:
    source = split.source
    return source.files if isinstance(source, FolderSource) else ()
