"""A folder of images is a task: `{name: my_pets, source: folder, path: /data/pets}` in a suite, and no code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vitbench.api import Split, Task
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import register_task
from vitbench.data.arrays import stratified_parts
from vitbench.data.image_folder import FolderSource, class_folders, image_files, unreadable

Fraction = Annotated[float, Field(gt=0, lt=0.9)]


@register_task("folder", group="folder", source="your own images")
def folder(
    path: Path,
    on_bad_image: Literal["stop", "skip"] = "stop",
    exif_rotate: bool = True,
    split_seed: int = 0,
    val_share: Fraction = 0.1,
    test_share: Fraction = 0.2,
) -> Task:
    """Images at PATH/train/<class>/*, with val/ and test/ or seeded, stratified shares of train."""
    if val_share + test_share >= 1:
        raise UsageError(f"val_share {val_share} and test_share {test_share} leave nothing to train on")
    classes = tuple(class_folders(path / "train"))
    skipped: list[str] = []

    def split(files: list[str], labels: list[int]) -> Split:
        return Split(
            FolderSource(path, tuple(files), exif_rotate),
            np.arange(len(files)),
            np.asarray(labels, dtype=np.int64),
        )

    def read(name: str) -> tuple[list[str], list[int]]:
        files, labels = image_files(path, name, classes)
        if on_bad_image == "stop":
            return files, labels
        whole = FolderSource(path, tuple(files), exif_rotate)
        bad = set(unreadable(whole))
        skipped.extend(whole.name(i) for i in sorted(bad))
        kept = [i for i in range(len(files)) if i not in bad]
        emptied = sorted(set(labels) - {labels[i] for i in kept})
        if emptied and name == "train":
            raise DataMissingError(
                f"no image of {[classes[i] for i in emptied]} in {path / name} can be read"
            )
        return [files[i] for i in kept], [labels[i] for i in kept]

    @cache
    def parts() -> dict[str, Split]:
        """The splits; what the folder does not hold is cut from train. Each has a source of its own files only."""
        found = {name: read(name) for name in ("train", "val", "test") if (path / name).is_dir()}
        missing = [name for name in ("val", "test") if name not in found]
        shares = {"val": val_share, "test": test_share}
        files, labels = found["train"]
        cut = stratified_parts(np.asarray(labels), [shares[name] for name in missing], split_seed)
        for name, part in zip(["train", *missing], cut, strict=True):
            found[name] = [files[i] for i in part], [labels[i] for i in part]
        return {name: split(*pair) for name, pair in found.items()}

    parts()  # lists the files now, so that what is missing is told before anything runs
    return Task(
        classes,
        lambda: parts()["train"],
        lambda: parts()["val"],
        lambda: parts()["test"],
        skipped=lambda: tuple(skipped),
    )
