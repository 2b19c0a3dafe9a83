"""The task of a table of images, whatever it is read from: labels, splits and clusters by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.api import ImageSource, Split, Task
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.data.named_splits import SplitNames, classes_without, cut_from_train, split_of, with_missing_cut

NAMED = 5  # of files or labels in a message
UNLABELLED = -1  # the label that the hub gives to images without one
NAME_SPLITS = "name the splits that are meant, such as train=train,test=validation; others are left out"
TOGETHER = 0.9  # of train, that val and test may take together


class Table:
    """The columns of a table: labels, splits and clusters by row, the last two if there are any; names of classes if known.

    Raises:
        DataMissingError: a row has no label, or another class or split than there are.
    """

    def __init__(
        self,
        labels: Sequence[Hashable],
        splits: Sequence[Any] | None,
        clusters: Sequence[Any] | None,
        name: str,
        class_names: Sequence[str] = (),
        split_names: SplitNames = SplitNames(),  # noqa: B008  it cannot be changed
    ) -> None:
        self.name = name
        self.rows, self.left_out = _rows_of_splits(splits, len(labels), name, split_names)
        if "train" not in self.rows:
            raise DataMissingError(f"{name} has no training split, only {', '.join(self.rows)}")
        kept = (
            range(len(labels)) if splits is None else sorted(i for rows in self.rows.values() for i in rows)
        )
        _check_labels(labels, kept, name, numbered=bool(class_names))
        known = list(range(len(class_names))) or _ordered({labels[i] for i in self.rows["train"]})
        if len(known) < 2:
            raise DataMissingError(f"{name} has {len(known)} class(es); a task needs at least two")
        self.class_names = tuple(class_names) or tuple(map(str, known))
        number = {label: i for i, label in enumerate(known)}
        strange = _ordered({labels[i] for i in kept if labels[i] not in number})
        if strange:
            shown = ", ".join(map(repr, strange[:NAMED]))
            raise DataMissingError(f"{name} has labels that no training row has: {shown}")
        self.labels = [number.get(label, UNLABELLED) for label in labels]
        self.clusters = (
            None
            if clusters is None
            else np.unique(np.asarray(list(map(str, clusters))), return_inverse=True)[1]
        )


class TableTask(Task):
    """The task of one table; `source` makes the source of rows at these positions."""

    def __init__(
        self,
        table: Table,
        source: Callable[[Sequence[int]], ImageSource],
        shares: Mapping[str, float],
        seed: int,
        departures: tuple[str, ...] = (),
    ) -> None:
        if sum(shares.values()) > TOGETHER:
            raise UsageError(f"val_share and test_share {tuple(shares.values())} leave no training images")
        self.class_names, self._departures = table.class_names, departures
        self._found, self._left_out = table.rows.keys(), table.left_out
        listed = {name: (rows, [table.labels[i] for i in rows]) for name, rows in table.rows.items()}
        self._splits = {
            name: Split(
                source(rows),
                np.arange(len(rows)),
                np.asarray(labels, dtype=np.int64),
                None if table.clusters is None else table.clusters[rows].astype(np.int64),
            )
            for name, (rows, labels) in with_missing_cut(listed, shares, seed).items()
        }

    def train(self) -> Split:
        """The rows of train, without those cut off for val and test."""
        return self._splits["train"]

    def val(self) -> Split:
        """The rows of val, or a part of train."""
        return self._splits["val"]

    def test(self) -> Split:
        """The rows of test, or a part of train."""
        return self._splits["test"]

    def departures(self) -> tuple[str, ...]:
        """How the copy is known to differ from the reference's."""
        return self._departures

    def remarks(self) -> tuple[str, ...]:
        """Splits that are left out or cut from train, and classes without an image in val or test."""
        found = [
            classes_without(self._splits[name].labels.tolist(), self.class_names, name)
            for name in ("val", "test")
        ]
        rows = sum(self._left_out.values())
        left_out = f"{rows} images of other splits are left out: {', '.join(self._left_out)}" if rows else ""
        cut = cut_from_train(self._found, {name: len(split) for name, split in self._splits.items()})
        return tuple(filter(None, [left_out, cut, *found]))


def _check_labels(labels: Sequence[Hashable], rows: Sequence[int], name: str, *, numbered: bool) -> None:
    """Check that these rows have labels; where classes are numbered, -1 is none."""
    without = [i for i in rows if labels[i] in (None, "") or (numbered and labels[i] == UNLABELLED)]
    if without:
        raise DataMissingError(
            Problem(
                f"{name}: {len(without)} rows have no label, the first is row {without[0] + 1}",
                next_step="if a split has no labels, leave it out: test=validation takes that as the test split",
            )
        )


def _rows_of_splits(
    splits: Sequence[Any] | None, count: int, name: str, names: SplitNames
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """The rows of each split, all train's where nothing says otherwise; and the sizes of those that are left out."""
    if splits is None:
        return {"train": list(range(count))}, {}
    found: dict[str, list[int]] = {}
    left_out: dict[str, int] = {}
    for row, text in enumerate(map(str, splits)):
        split = names.of(text)
        if split is None and not any(names):
            what = f"{name}: row {row + 1} is of split {text!r}, not train, val or test"
            raise DataMissingError(Problem(what, next_step=NAME_SPLITS))
        if split is None:
            left_out[text] = left_out.get(text, 0) + 1
        else:
            found.setdefault(split, []).append(row)
    if absent := [given for split, given in names._asdict().items() if given and split not in found]:
        there = ", ".join(dict.fromkeys(map(str, splits)))
        raise UsageError(
            Problem(
                f"{name} has no split {absent[0]!r}, only {there}",
                nearest=nearest(absent[0], there.split(", ")),
            )
        )
    return found, left_out


def splits_of_files(root: Path, sizes: Mapping[str, int], names: SplitNames) -> list[str] | None:
    """What the split of each row is called by its file's name or folder, of files with so many rows; None if no file says it.

    Raises:
        DataMissingError: some files say it and others do not.
    """
    by_file = {file: _split_of_file(file, names) for file in sizes}
    if not any(by_file.values()) and not any(names):
        return None
    silent = [file for file, split in by_file.items() if split is None]
    if silent and not any(names):
        what = f"{root}: the names of {', '.join(silent[:NAMED])} do not say which split they are of"
        raise DataMissingError(Problem(what, next_step=NAME_SPLITS))
    return [by_file[file] or _beginning(file) for file, rows in sizes.items() for _ in range(rows)]


def _split_of_file(file: str, names: SplitNames) -> str | None:
    """The split's name in a file's name, at its beginning if one is there, or of its folder; None if there is none."""
    stem, folder = Path(file).stem, Path(file).parent.name
    for given in sorted(filter(None, names), key=len, reverse=True):
        if re.match(rf"{re.escape(given)}([-_.]|$)", stem, re.IGNORECASE) or folder.lower() == given.lower():
            return given
    parts = re.split(r"[-_.]", stem)
    found = list(dict.fromkeys(part for part in parts if split_of(part)))
    if found and (parts[0] == found[0] or len(found) == 1):
        return found[0]
    return folder if split_of(folder) else None


def _beginning(file: str) -> str:
    """What a file of no known split begins with, its number left out."""
    return re.split(r"[-_.]\d", Path(file).stem)[0]


def _ordered(labels: set[Any]) -> list[Any]:
    """Labels in the order of their classes: numbers, also those written as text, by value, others by name."""
    try:
        return sorted(labels, key=lambda label: (float(label), str(label)))
    except (ValueError, TypeError):
        return sorted(labels, key=str)
