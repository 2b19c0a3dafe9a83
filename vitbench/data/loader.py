"""Batches of preprocessed images, decoded ahead by threads, in the split's order.

Threads, not processes: decoding releases the interpreter's lock, nothing is pickled, and array_record crashes under fork
(docs/protocols.md#image-decoding). The batches depend neither on the number of threads nor on what is cached.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from vitbench.data.pixel_digests import Keep, keeper
from vitbench.data.preprocess import Preprocess, buffer, fill, resized
from vitbench.data.transfer import host_room, sent
from vitbench.data.writer_thread import WriterThread

BATCHES_AHEAD = 4
AHEAD_BYTES = 2 * 2**30  # of preprocessed images, in memory
READERS = 2  # threads that read cached images
MOST_THREADS = 16
# Images that a thread decodes, then resizes, at a time: large ones stay in the processor's cache in between, and a batch of 512
# keeps 32 threads at work.
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
    load = _Load(split, how, device, size, None if how.dct == "fast" else keeper(split))
    for is_native in (True, False):
        with outside("cache", waits=False):
            kept = store.open(load.key(is_native)) if store is not None else None
        if kept is not None:
            yield from _finished(load, _read_ahead(load, kept, is_native))
            return
    if store is None:
        yield from _finished(load, _decoded(load))
        return
    writer = _CacheWriter(load, store)
    try:
        with WriterThread() as behind:
            yield from _finished(load, _decoded(load), lambda batch: behind(writer.add, batch))
            with outside("cache", waits=False):
                behind.finish()
                writer.finish()
    finally:
        writer.abandon()


def _finished(
    load: _Load, loaded: Iterator[_Batch], seen: Callable[[_Batch], None] = lambda _batch: None
) -> Iterator[Tensor]:
    """Yield batches on the device; `seen` is called with each before."""
    while True:
        with outside("images", waits=False):
            batch = next(loaded, None)
            if batch is None:
                return
            seen(batch)
        yield load.finish(batch)


@dataclass(frozen=True)
class _Batch:
    """Small images of one size as they are, (B, H, W, 3) uint8, or resized images, (B, 3, S, S), in memory of this machine."""

    pixels: Tensor
    is_native: bool


@dataclass(frozen=True)
class _Load:
    """Loading of a split's images: batches, of which threads decode and resize a few images at a time."""

    split: Split
    how: Preprocess
    device: str
    size: int
    keep_digests: Keep | None = None

    def begin(self, pool: ThreadPoolExecutor, start: int) -> _Waiting:
        """Have the pieces of one batch decoded."""
        count = min(self.size, len(self.split) - start)
        on_gpu = self.device.startswith("cuda")
        room = buffer(
            count, self.how, "cpu", pinned=on_gpu
        )  # by the reader's thread, which reuses it when it is freed
        pieces = range(0, count, FEW)
        return _Waiting(
            room, [pool.submit(self._piece, start + first, room[first : first + FEW]) for first in pieces]
        )

    def _piece(self, start: int, room: Tensor) -> Pixels | BadImageError | None:
        """Decode a few images, in a thread: small ones of one size are returned as they are, others resized into `room`."""
        positions = self.split.indices[start : start + len(room)].tolist()
        fast = {"fast_dct": True} if self.how.dct == "fast" else {}
        try:
            images = self.split.source.read(positions, **fast)
        except BadImageError as error:
            return error
        if self.keep_digests is not None:
            self.keep_digests(positions, images)
        if len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= SMALL_PX:
            return np.stack(images)
        fill(room, images, self.how)
        return None

    def end(self, waiting: _Waiting) -> _Batch | BadImageError:
        """A batch of pieces; where not all of its images are small and of one size, those that are get resized."""
        pieces = [future.result() for future in waiting.pieces]
        if bad := [piece for piece in pieces if isinstance(piece, BadImageError)]:
            return BadImageError.together(bad, len(waiting.room))
        native = [piece for piece in pieces if isinstance(piece, np.ndarray)]
        if len(native) == len(pieces) and len({piece.shape[1:] for piece in native}) == 1:
            together = host_room((len(waiting.room), *native[0].shape[1:]), torch.uint8, self.device)
            np.concatenate(native, out=together.numpy())
            return _Batch(together, is_native=True)
        for first, piece in zip(range(0, len(waiting.room), FEW), pieces, strict=True):
            if isinstance(piece, np.ndarray):
                fill(waiting.room[first : first + FEW], piece, self.how)
        return _Batch(waiting.room, is_native=False)

    def finish(self, batch: _Batch) -> Tensor:
        """The batch on the device, resized there if it is of small images."""
        pixels = sent(batch.pixels, self.device)
        return resized(pixels, self.how) if batch.is_native else pixels

    def key(self, is_native: bool) -> str:
        """The cache key of the images as they are (`is_native`), or as preprocessed."""
        decoders = [f"{name} {version(name)}" for name in ("pillow", "simplejpeg")]
        how = [self.how.dct] if is_native else [repr(self.how), torch.__version__]
        facts = json.dumps([FORMAT, *decoders, *how, self.split.source.fingerprint])
        return digest_bytes(facts.encode(), self.split.indices.tobytes())[:32]


@dataclass(frozen=True)
class _Waiting:
    """A batch under way: memory for its resized images, and its pieces."""

    room: Tensor
    pieces: list[Future[Pixels | BadImageError | None]]


def _read_ahead(load: _Load, kept: Pixels, is_native: bool) -> Iterator[_Batch]:
    """Yield batches of cached images in order, read ahead by threads."""

    def read(start: int, room: Tensor) -> _Batch:
        np.copyto(room.numpy(), kept[start : start + len(room)])
        return _Batch(room if is_native else room.permute(0, 3, 1, 2), is_native)

    def begin(start: int) -> Future[_Batch]:
        count = min(load.size, len(kept) - start)
        return pool.submit(read, start, host_room((count, *kept.shape[1:]), torch.uint8, load.device))

    with ThreadPoolExecutor(READERS) as pool:
        work = map(begin, range(0, len(kept), load.size))
        waiting = deque(itertools.islice(work, READERS + 1))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(itertools.islice(work, 1))
            yield batch


def _decoded(load: _Load) -> Iterator[_Batch]:
    """Yield batches in order, decoding some ahead; after a bad image decode the rest only to name all of them."""
    bad: list[BadImageError] = []
    threads = max(2, min(torch.get_num_threads(), os.cpu_count() or 1, MOST_THREADS))
    with ThreadPoolExecutor(threads + 1, initializer=alone) as pool:  # one more, as some wait for the disk
        work = (load.begin(pool, start) for start in range(0, len(load.split), load.size))
        room = 3 * load.size * load.how.crop_px**2 * (4 if load.how.rounding == "none" else 1)
        enough = max(BATCHES_AHEAD, math.ceil(threads * FEW / load.size) + 1)
        waiting = deque(itertools.islice(work, max(2, min(enough, AHEAD_BYTES // room))))
        while waiting:
            batch = load.end(waiting.popleft())
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

    def __init__(self, load: _Load, store: DecodedCache) -> None:
        self.load = load
        self.store = store
        self.writer: ArrayWriter | None = None
        self.is_native: bool | None = None

    def add(self, batch: _Batch) -> None:
        """Cache a batch, or give up on caching."""
        if not (batch.is_native or self.load.how.rounding != "none"):
            self.abandon()
            return
        pixels = (batch.pixels if batch.is_native else batch.pixels.permute(0, 2, 3, 1)).numpy()
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
