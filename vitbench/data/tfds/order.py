"""The order in which TFDS stores examples, so that `train[:800]` is the same everywhere (docs/protocols.md#stored-order)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

Key = str | int


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
