"""Images to batches: decoded ahead by threads, whole batches at a time, in the split's order.

Threads, not processes: decoding releases the interpreter's lock, nothing is pickled, and array_record crashes under fork
(facts/data_layer.md 4c). What comes out depends neither on their number nor on what is cached.
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
from vitbench.core.files import digest_bytes
from vitbench.data.decode import BadImageError
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.disk_cache import FORMAT, ArrayWriter
from vitbench.data.preprocess import Preprocess, apply, buffer, fill, moved

BATCHES_AHEAD = 4
AHEAD_BYTES = 2 * 2**30  # of preprocessed images, on the device
MOST_THREADS = 16
FEW = 16
SMALL_PX = 128  # images of one size up to this travel and are kept as they are, and are resized together on the device


def batches(
    split: Split, how: Preprocess, device: str, size: int, store: DecodedCache | None = None
) -> Iterator[Tensor]:
    """Preprocessed pixels (B, 3, S, S) of a split, on the device.

    Raises:
        BadImageError: images cannot be decoded; all of the split's are named.
    """
    load = _Load(split, how, device, size)
    for is_native in (True, False):
        kept = store.open(load.key(is_native)) if store is not None else None
        if kept is not None:
            for start in range(0, len(split), size):
                yield load.finish(_Batch(np.array(kept[start : start + size]), is_native))
            return
    keeping = _Keeping(load, store)
    try:
        for batch in _decoded(load):
            keeping.add(batch)
            yield load.finish(batch)
        keeping.finish()
    finally:
        keeping.abandon()


@dataclass(frozen=True)
class _Batch:
    """Small images of one size as they are, (B, H, W, 3) uint8; or images resized in their thread, (B, 3, S, S)."""

    pixels: Pixels | Tensor
    is_native: bool


@dataclass(frozen=True)
class _Load:
    """What is done to a split's images, batch by batch."""

    split: Split
    how: Preprocess
    device: str
    size: int

    def room(self, start: int) -> Tensor:
        """Where a batch goes; made in the reader's thread, whose memory is kept when freed, not faulted in anew."""
        return buffer(min(self.size, len(self.split) - start), self.how, self.device)

    def __call__(self, start: int, room: Tensor) -> _Batch | BadImageError:
        """Decode one batch, in a thread; large images a few at a time, resized while they are in the processor's cache."""
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
        """Look through a batch that has a bad image, to name them all."""
        try:
            self._read(positions)
        except BadImageError as error:
            return error
        return found

    def finish(self, batch: _Batch) -> Tensor:
        """The batch on the device, resized there if it is not yet."""
        if batch.is_native:
            return apply(np.asarray(batch.pixels), self.how, self.device)
        if isinstance(batch.pixels, Tensor):
            return batch.pixels
        return moved(batch.pixels, torch.device(self.device)).permute(0, 3, 1, 2)

    def key(self, is_native: bool) -> str:
        """Under which its images are kept: as they are, or as the preprocessing makes them."""
        decoders = [f"{name} {version(name)}" for name in ("pillow", "simplejpeg")]
        how = [self.how.dct] if is_native else [repr(self.how), self.device.split(":")[0], torch.__version__]
        facts = json.dumps([FORMAT, *decoders, *how, self.split.source.fingerprint])
        return digest_bytes(facts.encode(), self.split.indices.tobytes())[:32]


def _decoded(load: _Load) -> Iterator[_Batch]:
    """Batches in order, some of them ahead; after a bad image the rest is only looked through, to name all."""
    bad: list[BadImageError] = []
    threads = max(2, min(torch.get_num_threads(), os.cpu_count() or 1, MOST_THREADS))
    with ThreadPoolExecutor(
        threads + 1, initializer=alone
    ) as pool:  # one more, while others wait for the disk
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
    """Have a decoding thread's own operators run on it alone: two of them with two helpers each are half as fast.

    OpenMP counts threads per thread, so the forward pass keeps its own number; torch.set_num_threads would not.
    """
    torch.get_num_threads()  # torch sets a new thread's number at its first use, and that must come before
    threadpool_limits(1, user_api="openmp")


class _Keeping:
    """Keeps what goes by, if all of it can be kept without loss and fits."""

    def __init__(self, load: _Load, store: DecodedCache | None) -> None:
        self.load = load
        self.store = store
        self.writer: ArrayWriter | None = None
        self.is_native: bool | None = None

    def add(self, batch: _Batch) -> None:
        """Keep a batch, or stop keeping."""
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
            self.writer = None

    def finish(self) -> None:
        """All has gone by."""
        if self.writer is not None:
            self.writer.finish()
            self.writer = None

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self.writer is not None:
            self.writer.abandon()
            self.writer = None
