"""A prepared data set that is one split: a further test set of a task, whose classes it must have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from vitbench.api import Split
from vitbench.core.errors import DataMissingError, Problem
from vitbench.data.tfds.dataset import DataSet, Prepared
from vitbench.data.tfds.description import broken, class_names
from vitbench.data.tfds.known_sizes import AbsentSource, assume
from vitbench.data.tfds.source import labelled, source_of


class OnlySplit:
    """The only split of a data set. Its labels are a task's classes, by the same names in the same order."""

    def __init__(self, data: DataSet, names: Sequence[str]) -> None:
        """Find the prepared copy; no example is read.

        Raises:
            DataMissingError: there is none, or it is damaged or has other classes.
        """
        self.data = data
        (self.name,) = data.sizes
        self.copy: Prepared | None = None
        try:
            self.copy = data.locate()
        except DataMissingError:
            if not assume(data.name):
                raise
        else:
            _check(data, self.copy, self.name, names)

    @property
    def version(self) -> str:
        """The version of the copy; '' if there is none."""
        return ".".join(map(str, self.copy.version)) if self.copy else ""

    def open(self) -> Split:
        """All its examples with their labels."""
        return self._split

    @cached_property
    def _split(self) -> Split:
        if self.copy is None:  # for estimates
            count = self.data.sizes[self.name]
            return Split(
                AbsentSource(self.data.name, count), np.arange(count), np.zeros(count, dtype=np.int64)
            )
        spec = f"{self.name}[0:{self.copy.sizes[self.name]}]"
        return labelled(source_of(self.data, self.copy, spec), "label")


def _check(data: DataSet, copy: Prepared, split: str, names: Sequence[str]) -> None:
    """Check that a copy is whole, judged without its examples, and has these classes."""
    trouble = (
        broken(copy, [split]) if split in copy.sizes else f"{copy.path} does not have the split {split!r}"
    )
    if not trouble and class_names(copy, "label") != tuple(names):
        trouble = f"{copy.path} has other classes than the task's {len(names)}, or in another order"
    if trouble:
        raise DataMissingError(
            Problem(f"data set {data.name}: {trouble}", next_step=data.mended(copy.path)), [data.name]
        )
