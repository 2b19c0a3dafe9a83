"""A source of images that are already in memory, and stratified splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitbench.api import ImageSource, Indices, Labels, Pixels, Split
from vitbench.core.files import digest_bytes


@dataclass(frozen=True, eq=False)
class ArraySource(ImageSource):
    """Images of one size in an array (N, H, W, 3) uint8."""

    images: Pixels
    label: str

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape and pixels."""
        return digest_bytes(repr(self.images.shape).encode(), self.images.tobytes())

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:  # noqa: ARG002  no JPEGs here
        """Copies of the images at these indices."""
        return list(self.images[np.asarray(indices, dtype=np.int64)])

    def name(self, index: int) -> str:
        """The data set's name and the image's index in it."""
        return f"{self.label}[{index}]"


def array_split(images: Pixels, labels: Labels, label: str) -> Split:
    """A split over copies of images (N, H, W, 3) uint8 and labels (N,): it shares no memory with the caller."""
    source = ArraySource(np.ascontiguousarray(images).copy(), label)
    return Split(source, np.arange(len(images)), np.asarray(labels, dtype=np.int64).copy())


def stratified_parts(labels: Labels, fractions: Sequence[float], seed: int) -> list[Indices]:
    """Indices (n_i,) of disjoint stratified parts, each in ascending order.

    `fractions` are the sizes of all parts but the first, which takes the rest. Of a class with few examples the first part
    gets at least one, then the last part.
    """
    generator = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for value in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == value))
        start = len(members)
        for part in range(len(fractions), 0, -1):
            wanted = round(len(members) * fractions[part - 1])
            size = max(min(wanted or 1, start - 1), 0)
            parts[part].extend(members[start - size : start].tolist())
            start -= size
        parts[0].extend(members[:start].tolist())
    return [np.sort(np.asarray(part, dtype=np.int64)) for part in parts]
