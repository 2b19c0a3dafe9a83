"""The order in which TFDS stores examples, so that `train[:800]` is the same everywhere (docs/protocols.md#stored-order)."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vitbench.api import Indices

Key = str | int
# How tf.data reads files by default: so many at a time, so many examples of each in turn (TFDS:core/utils/read_config.py:115).
FILES_AT_ONCE, EXAMPLES_IN_TURN = 16, 16
_SLICE = re.compile(r"\w+(?:\[(?P<start>-?\d*%?):(?P<stop>-?\d*%?)\])?")


def order_hash(split: str, key: Key) -> bytes:
    """MD5 of the split's name and the example's key, as big-endian bytes, which sort like the 128-bit number."""
    text = str(key).replace("\\", "/")
    return hashlib.md5(f"{split}{text}".encode(), usedforsecurity=False).digest()


def stored_order(split: str, keys: Iterable[Key]) -> list[Key]:
    """The keys in the order in which TFDS stores their examples: ascending by hash, whatever the number of shards."""
    return sorted(keys, key=lambda key: order_hash(split, key))


def digest_keys(keys: Iterable[Key]) -> str:
    """The first 12 hex digits of the SHA-256 over the keys, one per line, by which 1.3 identifies a draw."""
    return hashlib.sha256("\n".join(map(str, keys)).encode()).hexdigest()[:12]


def reading_order(shard_lengths: Sequence[int], split: str) -> Indices:
    """Positions (N,) in stored order of a split's examples, or of a slice's, in the order in which TFDS reads them.

    The default of `tfds.load` without shuffling: 16 files take turns of 16 examples, and the next file takes the place of one
    that has ended (TFDS:core/reader.py:303-328). Equal to the order that TFDS itself gave (tests/golden/reading_order.json).

    Args:
        shard_lengths: number of examples in each file.
        split: `train`, or a slice such as `train[:80%]` or `train[500:1500]`.

    Raises:
        ValueError: it is no such split.
    """
    found = _SLICE.fullmatch(split)
    if found is None:
        raise ValueError(f"{split!r} is not a split or a slice of one, such as train or train[:80%]")
    total = sum(shard_lengths)
    start, stop = _position(found["start"], total, 0), _position(found["stop"], total, total)
    ends = np.cumsum([0, *shard_lengths]).tolist()
    pieces = [range(max(start, a), min(stop, b)) for a, b in itertools.pairwise(ends)]
    return np.fromiter(_in_turns([piece for piece in pieces if piece]), dtype=np.int64)


def _position(text: str | None, total: int, default: int) -> int:
    if not text:
        return default
    value = round(total * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return max(value + total if value < 0 else min(value, total), 0)


def _in_turns(files: Sequence[range]) -> Iterator[int]:
    """The examples of files that take turns."""
    waiting = iter(files)
    places: list[Iterator[int] | None] = [None] * min(FILES_AT_ONCE, len(files))
    unread = len(files)
    while unread:
        for place, file in enumerate(places):
            current = file if file is not None else next(map(iter, waiting), None)
            if current is None:
                continue
            turn = list(itertools.islice(current, EXAMPLES_IN_TURN))
            yield from turn
            ended = len(turn) < EXAMPLES_IN_TURN
            places[place] = None if ended else current
            unread -= ended


def shard_lengths_of(examples: int, shards: int) -> list[int]:
    """How TFDS divides the examples of a split among its files (TFDS:core/writer.py, `_get_shard_boundaries`)."""
    ends = [round(examples * (i + 1) / shards) for i in range(shards)]
    return [after - before for before, after in itertools.pairwise([0, *ends])]
