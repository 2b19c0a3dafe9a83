"""Checks of a folder of images that a task would read: sizes, classes, unreadable files, equal images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vitbench.api import Split, Task
from vitbench.data.decode import BadImageError
from vitbench.data.duplicates import equal_images, equal_within, names_of
from vitbench.data.tfds.verify import Item

LISTED = 100  # pairs of equal images of each kind


def verify_folder(task: Task) -> Iterator[Item]:
    """Yield the results of all checks of a task on a folder; decodes all of its images."""
    splits = {"train": task.train(), "val": task.val(), "test": task.test()}
    for name, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(task.class_names))
        text = f"{len(split):,} images of {np.count_nonzero(counts)} classes, {counts.min():,} to {counts.max():,} a class"
        yield Item(name, bool(counts.min()) if name != "val" else None, text)
    for text in (*task.departures(), *task.remarks()):
        yield Item("files", None, text)
    try:
        yield from _equal(splits)
    except BadImageError as error:
        for name, reason in error.bad.items():
            yield Item("unreadable", False, f"{name}: {reason}")


def _equal(splits: Mapping[str, Split]) -> Iterator[Item]:
    """Images that are in two splits, and images of one split that have two labels."""
    found: dict[str, list[tuple[str, str]]] = {}
    for pair in equal_images(splits):
        found.setdefault(f"{pair.split} in {pair.other}", []).append(names_of(splits, pair))
    for name, split in splits.items():
        for one, other in equal_within(split):
            if split.labels[one] != split.labels[other]:
                names = (
                    split.source.name(int(split.indices[one])),
                    split.source.name(int(split.indices[other])),
                )
                found.setdefault(f"two labels in {name}", []).append(names)
    for kind, pairs in found.items():
        yield from (Item(kind, False, f"{one} = {other}") for one, other in pairs[:LISTED])
        if len(pairs) > LISTED:
            yield Item(kind, False, f"and {len(pairs) - LISTED:,} more")
    if not found:
        yield Item("equal images", True, "no image is in two splits, or in two classes of one")
