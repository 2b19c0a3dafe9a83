"""Images in a fixed order, labelled examples among them, and the rules that score predictions of their labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Labels = NDArray[np.int64]


class ImageSource(ABC):
    """Images in a fixed order, decoded on demand. Labels are the task's."""

    one_encoding: ClassVar[bool] = False  # equal images are equal bytes, whose digests `stored_digests` has

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A digest that changes whenever an image changes."""

    @abstractmethod
    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """RGB images (H, W, 3) uint8, in the order of `indices`; called from several threads. `fast_dct`: as TensorFlow.

        Raises:
            BadImageError: an image cannot be decoded.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of an image in messages and predictions."""

    def stored_digests(self, indices: Indices) -> Sequence[bytes] | None:  # noqa: ARG002  of sources that have files
        """Digests of images as they are stored, where they cost less than decoding; None otherwise."""
        return None


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled examples: positions in a source and labels; `clusters` number images that belong together; all (N,) int64."""

    source: ImageSource
    indices: Indices
    labels: Labels
    clusters: Indices | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Indices) -> Split:
        """The examples at these positions of this split, as copies that share no memory with it."""
        columns = (self.indices, self.labels, self.clusters)
        return Split(self.source, *(None if each is None else each[positions].copy() for each in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ScoreRule:
    """A metric: `correct(predictions (N,), split)` gives (N,) float, 1 right, 0 wrong, NaN not counted."""

    name: str
    correct: Callable[[Labels, Split], NDArray[np.float64]]
    by_label: bool = False  # an image that counts is right if its label is predicted; further metrics need it


def _top1(predictions: Labels, split: Split) -> NDArray[np.float64]:
    return np.asarray(predictions == split.labels, dtype=np.float64)


TOP1 = ScoreRule("top1", _top1, by_label=True)
