"""What a protocol gets to see of a source of images: the images, and no way on from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitbench.api import ImageSource, Pixels, Split
from vitbench.data.budgets import LabelledData


def sealed_source(source: ImageSource) -> ImageSource:
    """A source that reads as another does and holds nothing of it: no file, no data set, no other slice.

    Python hides nothing from code that goes looking for it; this leaves nothing to come across.
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
    """The same data over veiled sources; splits that shared a source still do."""
    veils: dict[int, ImageSource] = {}

    def covered(split: Split) -> Split:
        source = veils.setdefault(id(split.source), sealed_source(split.source))
        return Split(source, split.indices, split.labels)

    pools = tuple(map(covered, data.pools))
    return LabelledData(covered(data.train), covered(data.val), pools, data.remarks)
