"""Images that are equal across splits, such as test images that were trained on (docs/protocols.md#duplicates)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitbench.api import Split
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.record import Duplicates
from vitbench.core.settings import cache_dir
from vitbench.data.pixel_digests import DECODED_UP_TO, DIGEST_BYTES, digest, seen

CACHED_FROM = 1_000
AT_ONCE = 64
EXAMPLES = 5  # pairs that a record names
SPLITS_HELD = 32  # in memory, for the next job
FORMAT = 2

COMPARED = (("test", "train"), ("test", "val"), ("val", "train"))
Kind = Literal["pixels", "files"]


@dataclass(frozen=True)
class Pair:
    """An image of one split, and an equal one of another: the splits, and the positions in them."""

    split: str
    position: int
    other: str
    other_position: int


_held: dict[str, list[bytes]] = {}


def duplicates(splits: Mapping[str, Split]) -> Duplicates:
    """Count the images of `test` and `val` that are equal to images of another split.

    Raises:
        BadImageError: an image cannot be decoded.
    """
    compared = _kind(splits)
    pairs = list(equal_images(splits, compared))
    counts = Counter((pair.split, pair.other) for pair in pairs)
    return Duplicates(
        compared=compared,
        test_in_train=counts["test", "train"],
        test_in_val=counts["test", "val"],
        val_in_train=counts["val", "train"],
        examples=tuple(names_of(splits, pair) for pair in pairs[:EXAMPLES]),
    )


def equal_images(splits: Mapping[str, Split], kind: Kind = "pixels") -> Iterator[Pair]:
    """Yield each image of `test` or `val` that has an equal one in another split, once per other split.

    Raises:
        BadImageError: an image cannot be decoded.
    """
    digests = {name: _digests(split, kind) for name, split in splits.items()}
    for name, other in COMPARED:
        if name in digests and other in digests:
            first = {found: position for position, found in reversed(list(enumerate(digests[other])))}
            for position, found in enumerate(digests[name]):
                if found in first:
                    yield Pair(name, position, other, first[found])


def equal_within(split: Split) -> Iterator[tuple[int, int]]:
    """Yield the positions of images of one split that are equal: each with the first that it equals.

    Raises:
        BadImageError: an image cannot be decoded.
    """
    first: dict[bytes, int] = {}
    for position, found in enumerate(_digests(split, "pixels")):
        if first.setdefault(found, position) != position:
            yield first[found], position


def names_of(splits: Mapping[str, Split], pair: Pair) -> tuple[str, str]:
    """The names of two equal images."""
    one, other = splits[pair.split], splits[pair.other]
    return (
        one.source.name(int(one.indices[pair.position])),
        other.source.name(int(other.indices[pair.other_position])),
    )


def _kind(splits: Mapping[str, Split]) -> Kind:
    """Decoded pixels; or files, where their digests are known and say the same, or where images are many."""
    sources = [split.source for split in splits.values()]
    few = sum(map(len, splits.values())) <= DECODED_UP_TO
    known = all(source.stored_digests(np.empty(0, np.int64)) is not None for source in sources)
    return "files" if known and (not few or all(source.one_encoding for source in sources)) else "pixels"


def _digests(split: Split, kind: Kind) -> list[bytes]:
    """A digest of each image."""
    if kind == "files":
        return list(split.source.stored_digests(split.indices) or ())
    key = digest_bytes(split.source.fingerprint.encode(), split.indices.tobytes())
    if key not in _held:
        while len(_held) >= SPLITS_HELD:
            _held.pop(next(iter(_held)))
        _held[key] = _decoded(split) if len(split) < CACHED_FROM else _cached(split, key)
    return _held[key]


def _cached(split: Split, key: str) -> list[bytes]:
    path = cache_dir() / f"image-digests-{FORMAT}" / f"{key}.bin"
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
        if len(kept) == DIGEST_BYTES * len(split):
            return [kept[at : at + DIGEST_BYTES] for at in range(0, len(kept), DIGEST_BYTES)]
    found = _decoded(split)
    with contextlib.suppress(OSError):  # a full disk: they are decoded again next time
        write_atomically(path, b"".join(found))
    return found


def _decoded(split: Split) -> list[bytes]:
    """Digests of decoded images; those that were loaded before are known."""
    known = seen(split)
    unknown = [index for index in split.indices.tolist() if index not in known]
    parts = [unknown[start : start + AT_ONCE] for start in range(0, len(unknown), AT_ONCE)]

    def digests(part: list[int]) -> dict[int, bytes]:
        return dict(zip(part, map(digest, split.source.read(part)), strict=True))

    with ThreadPoolExecutor() as pool:
        for found in pool.map(digests, parts):
            known.update(found)
    return [known[index] for index in split.indices.tolist()]
