"""Splits by their names in files, folders and tables, and val and test cut from train where they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from vitbench.data.arrays import stratified_parts

T = TypeVar("T")
Listed = tuple[list[T], list[int]]  # what a split holds, and the labels of it

# Names of splits, in any case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class SplitNames(NamedTuple):
    """What the splits are called where the usual names are not meant; '' where they are.

    Once one is named, what is neither usual nor named is left out: `test="validation"` makes validation the test split, and a
    split called test, such as one without labels, is not read.
    """

    train: str = ""
    val: str = ""
    test: str = ""

    def of(self, name: str) -> str | None:
        """The split that a name means: `valid`, `Validation` and `dev` are val; None if it is no split's."""
        wanted, named = name.strip().lower(), self._asdict()
        for split, own in named.items():
            if own and own.lower() == wanted:
                return split
        usual = split_of(name)
        return None if usual is None or named[usual] else usual


def split_of(name: str) -> str | None:
    """The split that a name usually means; None if it is no split's."""
    return next((split for split, names in SPLIT_NAMES.items() if name.strip().lower() in names), None)


def with_missing_cut(
    found: Mapping[str, Listed[T]], shares: Mapping[str, float], seed: int
) -> dict[str, Listed[T]]:
    """All three splits: those that are missing are stratified random parts of train, of these shares."""
    missing = [name for name in ("val", "test") if name not in found]
    items, labels = found["train"]
    parts = stratified_parts(np.asarray(labels), [shares[name] for name in missing], seed)
    cut: dict[str, Listed[T]] = {
        name: ([items[i] for i in part], [labels[i] for i in part])
        for name, part in zip(["train", *missing], parts, strict=True)
    }
    return {**found, **cut}


def cut_from_train(found: Iterable[str], sizes: Mapping[str, int]) -> str:
    """Which splits were not found, in words, so that parts of train of these sizes stand for them; '' if all were."""
    cut = [f"{name} ({sizes[name]})" for name in ("val", "test") if name not in found]
    return f"images of train were set apart as {' and '.join(cut)}: no such split was found" if cut else ""


def classes_without(labels: Sequence[int], class_names: Sequence[str], split: str) -> str:
    """The classes of which a split has no image, in words; '' if there are none."""
    present = set(labels)
    absent = [name for i, name in enumerate(class_names) if i not in present]
    more = f" and {len(absent) - CLASSES_NAMED} more" if len(absent) > CLASSES_NAMED else ""
    return f"{split} has no image of: {', '.join(absent[:CLASSES_NAMED])}{more}" if absent else ""


CLASSES_NAMED = 5  # of those that a split lacks
