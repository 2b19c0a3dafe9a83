"""Sources that a protocol can read images from, but that give it no access to files, data sets or other splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitbench.api import ImageSource, Pixels, Split
from vitbench.data.budgets import LabelledData


def sealed_source(source: ImageSource) -> ImageSource:
    """A source with the same images as `source`, but without its attributes: no paths, no data set, no other split.

    This prevents accidents, not intent: Python code that searches for the original source will find it.
    """

    class Sealed(ImageSource):
        __slots__ = ()

        def __len__(self) -> int:
            return len(source)

        @property
        def fingerprint(self) -> str:
            return source.fingerprint

        def read(self, indices: Sequence[int], **how: Any) -> list[Pixels]:
            return source.read(indices, **how)

        def name(self, index: int) -> str:
            return source.name(index)

    return Sealed()


def sealed(data: LabelledData) -> LabelledData:
    """The same data over sealed sources; splits that share a source still do."""
    sources: dict[int, ImageSource] = {}

    def seal(split: Split) -> Split:
        source = sources.setdefault(id(split.source), sealed_source(split.source))
        return Split(source, split.indices, split.labels)

    return LabelledData(seal(data.train), seal(data.val), tuple(map(seal, data.pools)), data.remarks)
