"""Digests of decoded images, by which equal ones are found; taken as images are loaded, to decode none twice."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np

from vitbench.api import Pixels, Split

DIGEST_BYTES = 16
# Decoding more takes minutes; sources that know digests of their files are then compared by these.
DECODED_UP_TO = 20_000  # images of all splits together
SOURCES_HELD = 8
Keep = Callable[[Sequence[int], Sequence[Pixels]], None]

_seen: dict[str, dict[int, bytes]] = {}  # digests by fingerprint of a source and index, the latest sources
_lock = threading.Lock()  # several threads load one source


def digest(image: Pixels) -> bytes:
    """Of the shape and the pixels (H, W, 3) of an image; hashing releases the interpreter's lock.

    SHA-256, which processors of the last years compute twice as fast as BLAKE2.
    """
    total = hashlib.sha256(repr(image.shape).encode())
    total.update(np.ascontiguousarray(image).data)
    return total.digest()[:DIGEST_BYTES]


def keeper(split: Split) -> Keep | None:
    """What keeps digests of images of a split that are decoded accurately, given their indices.

    None where pixels need not be compared: what is stored tells, or there are too many.
    """
    if len(split) > DECODED_UP_TO or split.source.one_encoding:
        return None
    fingerprint = split.source.fingerprint

    def keep(indices: Sequence[int], images: Sequence[Pixels]) -> None:
        found = dict(zip(indices, map(digest, images), strict=True))
        with _lock:
            if fingerprint not in _seen:
                while len(_seen) >= SOURCES_HELD:
                    _seen.pop(next(iter(_seen)))
            _seen.setdefault(fingerprint, {}).update(found)

    return keep


def seen(split: Split) -> dict[int, bytes]:
    """The digests that are known of images of a split's source, by index."""
    with _lock:
        return dict(_seen.get(split.source.fingerprint, {}))
