"""TFDS's stored order, which makes `train[:800]` the same 800 images for everybody (facts/protocols.md 1.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

Key = str | int


def order_hash(split: str, key: Key) -> bytes:
    """MD5 of the split's name and the example's key; big-endian bytes compare as the 128-bit number does."""
    text = str(key).replace("\\", "/")
    return hashlib.md5(f"{split}{text}".encode(), usedforsecurity=False).digest()


def stored_order(split: str, keys: Iterable[Key]) -> list[Key]:
    """The keys as TFDS stores their examples: ascending by hash, whatever the number of shards."""
    return sorted(keys, key=lambda key: order_hash(split, key))


def digest_keys(keys: Iterable[Key]) -> str:
    """The first 12 hex digits of SHA-256 over the keys, one a line: how 1.3 states a draw."""
    return hashlib.sha256("\n".join(map(str, keys)).encode()).hexdigest()[:12]
