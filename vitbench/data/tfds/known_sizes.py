"""Prepared data sets that are not on this machine, by the sizes that the reference has: for estimates, which read no image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from vitbench.api import ImageSource, Pixels, Split, Task
from vitbench.core.errors import DataMissingError

_ASSUMED: ContextVar[list[str] | None] = ContextVar("assumed", default=None)


@contextlib.contextmanager
def assuming_sizes() -> Iterator[list[str]]:
    """Within the block, tasks whose data sets are not here are made all the same; yields the names of these data sets."""
    names: list[str] = []
    token = _ASSUMED.set(names)
    try:
        yield names
    finally:
        _ASSUMED.reset(token)


def assume(name: str) -> bool:
    """Whether a data set that is not here may be stood for; it is noted."""
    names = _ASSUMED.get()
    if names is not None and name not in names:
        names.append(name)
    return names is not None


@dataclass(frozen=True, eq=False)
class AbsentSource(ImageSource):
    """So many images that cannot be read."""

    name_: str
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def fingerprint(self) -> str:
        """The name: there is no image to digest."""
        return self.name_

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:  # noqa: ARG002  there are none
        """Nothing can be read.

        Raises:
            DataMissingError: always.
        """
        raise DataMissingError(f"{self.name_} is not on this machine")

    def name(self, index: int) -> str:
        """The slice and the position in it."""
        return f"{self.name_}[{index}]"


@dataclass
class SizedTask(Task):
    """A task of splits with so many images each, by name, with classes as equal as they can be."""

    class_names: tuple[str, ...]
    splits: dict[str, tuple[str, int]]
    random_order: bool = True

    def train(self) -> Split:
        """As many images as are trained on."""
        return self._split("train")

    def val(self) -> Split:
        """As many as selection is made on."""
        return self._split("val")

    def test(self) -> Split:
        """As many as are scored."""
        return self._split("test")

    def shots(self) -> Split:
        """As many as N-shot budgets draw from."""
        return self._split("shots")

    def _split(self, name: str) -> Split:
        spec, count = self.splits[name]
        places = np.arange(count)
        return Split(AbsentSource(spec, count), places, places % len(self.class_names))
