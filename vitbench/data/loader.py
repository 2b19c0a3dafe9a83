"""Batches of preprocessed images, decoded ahead by threads, in the split's order.

Threads, not processes: decoding releases the interpreter's lock, nothing is pickled, and array_record crashes under fork
(docs/protocols.md#image-decoding). The batches depend neither on the number of threads nor on what is cached.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vitbench.api import Pixels, Split
from vitbench.compute.meter import outside
from vitbench.core.files import digest_bytes
from vitbench.data.decode import BadImageError
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.disk_cache import FORMAT, ArrayWriter
from vitbench.data.preprocess import Preprocess, apply, buffer, fill, moved

BATCHES_AHEAD = 4
AHEAD_BYTES = 2 * 2**30  # of preprocessed images, on the device
MOST_THREADS = 16
# Large images that are decoded, then resized, at a time: they stay in the processor's cache in between.
FEW = 16
# Images of one size up to this are cached and moved to the device as they are, and resized there together.
SMALL_PX = 128


def batches(
    split: Split, how: Preprocess, device: str, size: int, store: DecodedCache | None = None
) -> Iterator[Tensor]:
    """Yield the preprocessed images of a split in batches (B, 3, S, S) on the device.

    Raises:
        BadImageError: images cannot be decoded; the error names all such images of the split.
    """
    load = _Load(split, how, device, size)
    for is_native in (True, False):
        with outside("cache", waits=False):
            kept = store.open(load.key(is_native)) if store is not None else None
        if kept is not None:
            for start in range(0, len(split), size):
                with outside("images", waits=False):
                    stored = _Batch(np.array(kept[start : start + size]), is_native)
                yield load.finish(stored)
            return
    writer = _CacheWriter(load, store)
    try:
        decoded = _decoded(load)
        while True:
            with outside("images", waits=False):
                batch = next(decoded, None)
                if batch is None:
                    break
                writer.add(batch)
            yield load.finish(batch)
        with outside("cache", waits=False):
            writer.finish()
    finally:
        writer.abandon()


@dataclass(frozen=True)
class _Batch:
    """Small images of one size as they are, (B, H, W, 3) uint8, or resized images, (B, 3, S, S)."""

    pixels: Pixels | Tensor
    is_native: bool


@dataclass(frozen=True)
class _Load:
    """Loading of a split's images, batch by batch."""

    split: Split
    how: Preprocess
    device: str
    size: int

    def room(self, start: int) -> Tensor:
        """Memory for a batch, allocated in the reader's thread, which reuses it when it is freed."""
        return buffer(min(self.size, len(self.split) - start), self.how, self.device)

    def __call__(self, start: int, room: Tensor) -> _Batch | BadImageError:
        """Decode one batch, in a thread; large images are resized too, a few at a time."""
        positions = self.split.indices[start : start + self.size].tolist()
        try:
            images = self._read(positions[:FEW])
            if len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= SMALL_PX:
                rest = self._read(positions[FEW:])
                if all(image.shape == images[0].shape for image in rest):
                    return _Batch(np.stack(images + rest), is_native=True)
            later = (positions[first : first + FEW] for first in range(FEW, len(positions), FEW))
            every = itertools.chain(images, itertools.chain.from_iterable(map(self._read, later)))
            return _Batch(fill(room, every, self.how), is_native=False)
        except BadImageError as error:
            return self._all_bad(positions, error)

    def _read(self, positions: list[int]) -> list[Pixels]:
        fast = {"fast_dct": True} if self.how.dct == "fast" else {}
        return self.split.source.read(positions, **fast) if positions else []

    def _all_bad(self, positions: list[int], found: BadImageError) -> BadImageError:
        """The error that names all bad images of a batch in which one was found."""
        try:
            self._read(positions)
        except BadImageError as error:
            return error
        return found

    def finish(self, batch: _Batch) -> Tensor:
        """The batch on the device, resized there unless it already is."""
        if batch.is_native:
            return apply(np.asarray(batch.pixels), self.how, self.device)
        if isinstance(batch.pixels, Tensor):
            return batch.pixels
        return moved(batch.pixels, torch.device(self.device)).permute(0, 3, 1, 2)

    def key(self, is_native: bool) -> str:
        """The cache key of the images as they are (`is_native`), or as preprocessed."""
        decoders = [f"{name} {version(name)}" for name in ("pillow", "simplejpeg")]
        how = [self.how.dct] if is_native else [repr(self.how), self.device.split(":")[0], torch.__version__]
        facts = json.dumps([FORMAT, *decoders, *how, self.split.source.fingerprint])
        return digest_bytes(facts.encode(), self.split.indices.tobytes())[:32]


def _decoded(load: _Load) -> Iterator[_Batch]:
    """Yield batches in order, decoding some ahead; after a bad image decode the rest only to name all of them."""
    bad: list[BadImageError] = []
    threads = max(2, min(torch.get_num_threads(), os.cpu_count() or 1, MOST_THREADS))
    with ThreadPoolExecutor(threads + 1, initializer=alone) as pool:  # one more, as some wait for the disk
        work = (pool.submit(load, start, load.room(start)) for start in range(0, len(load.split), load.size))
        room = 3 * load.size * load.how.crop_px**2 * (4 if load.how.rounding == "none" else 1)
        ahead = max(2, min(max(BATCHES_AHEAD, threads), AHEAD_BYTES // room))
        waiting = deque(itertools.islice(work, ahead))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(itertools.islice(work, 1))
            if isinstance(batch, BadImageError):
                bad.append(batch)
            elif not bad:
                yield batch
    if bad:
        raise BadImageError.together(bad, len(load.split))


def alone() -> None:
    """Run the operators of a decoding thread on that thread alone; with two OpenMP threads each they are half as fast.

    OpenMP's limit is per thread, so the forward pass keeps its threads, which torch.set_num_threads would not allow.
    """
    torch.get_num_threads()  # torch sets a new thread's limit at its first use, which must come first
    threadpool_limits(1, user_api="openmp")


class _CacheWriter:
    """Caches the batches of a pass, if all can be cached without loss and fit."""

    def __init__(self, load: _Load, store: DecodedCache | None) -> None:
        self.load = load
        self.store = store
        self.writer: ArrayWriter | None = None
        self.is_native: bool | None = None

    def add(self, batch: _Batch) -> None:
        """Cache a batch, or give up on caching."""
        if self.store is None or not (batch.is_native or self.load.how.rounding != "none"):
            self.abandon()
            return
        pixels = (
            batch.pixels.permute(0, 2, 3, 1).cpu().numpy()
            if isinstance(batch.pixels, Tensor)
            else batch.pixels
        )
        if self.is_native is None:
            self.writer = self.store.writer(self.load.key(batch.is_native), len(self.load.split), pixels)
            self.is_native = batch.is_native
        if batch.is_native != self.is_native:
            self.abandon()
        if self.writer is not None and not self.writer.add(pixels):
            self.abandon()

    def finish(self) -> None:
        """Make the cached images visible, after the last batch."""
        if self.writer is not None:
            self.writer.finish()
            self.writer = None

    def abandon(self) -> None:
        """Delete what has been cached, unless it is finished."""
        if self.writer is not None:
            self.writer.abandon()
            self.writer = None
