"""The task of a table of images, whatever it is read from: labels, splits and clusters by row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.api import ImageSource, Split, Task
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.data.named_splits import classes_without, split_of, with_missing_cut

NAMED = 5  # of files or labels in a message
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
    ) -> None:
        self.name = name
        without = [
            i for i, label in enumerate(labels) if label in (None, "") or (class_names and label == -1)
        ]
        if without:
            raise DataMissingError(
                f"{name}: {len(without)} rows have no label, the first is row {without[0] + 1}"
            )
        self.rows = _rows_of_splits(splits, len(labels), name)
        if "train" not in self.rows:
            raise DataMissingError(f"{name} has no training split, only {', '.join(self.rows)}")
        known = list(range(len(class_names))) or _ordered({labels[i] for i in self.rows["train"]})
        if len(known) < 2:
            raise DataMissingError(f"{name} has {len(known)} class(es); a task needs at least two")
        self.class_names = tuple(class_names) or tuple(map(str, known))
        number = {label: i for i, label in enumerate(known)}
        strange = _ordered({label for label in labels if label not in number})
        if strange:
            shown = ", ".join(map(repr, strange[:NAMED]))
            raise DataMissingError(f"{name} has labels that no training row has: {shown}")
        self.labels = [number[label] for label in labels]
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
        """Classes without an image in val or test."""
        found = (
            classes_without(self._splits[name].labels.tolist(), self.class_names, name)
            for name in ("val", "test")
        )
        return tuple(filter(None, found))


def _rows_of_splits(splits: Sequence[Any] | None, count: int, name: str) -> dict[str, list[int]]:
    """The rows of each split; all are train's where nothing says otherwise."""
    if splits is None:
        return {"train": list(range(count))}
    found: dict[str, list[int]] = {}
    for row, text in enumerate(splits):
        split = split_of(str(text))
        if split is None:
            raise DataMissingError(f"{name}: row {row + 1} is of split {text!r}, not train, val or test")
        found.setdefault(split, []).append(row)
    return found


def splits_of_files(root: Path, sizes: Mapping[str, int]) -> list[str] | None:
    """The split of each row by its file's name or folder, of files with so many rows; None if no file says one.

    Raises:
        DataMissingError: some files say it and others do not.
    """
    by_file = {file: _split_of_file(file) for file in sizes}
    if not any(by_file.values()):
        return None
    if silent := [file for file, split in by_file.items() if split is None]:
        raise DataMissingError(
            f"{root}: the names of {', '.join(silent[:NAMED])} do not say which split they are of"
        )
    return [str(by_file[file]) for file, rows in sizes.items() for _ in range(rows)]


def _split_of_file(file: str) -> str | None:
    parts = Path(file)
    names = (parts.stem.replace("_", "-").partition("-")[0], parts.parent.name)
    return next((split for name in names if (split := split_of(name))), None)


def _ordered(labels: set[Any]) -> list[Any]:
    """Labels in the order of their classes: numbers, also those written as text, by value, others by name."""
    try:
        return sorted(labels, key=lambda label: (float(label), str(label)))
    except (ValueError, TypeError):
        return sorted(labels, key=str)
