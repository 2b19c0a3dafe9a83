"""Features on disk, shared by every job and protocol that needs the same ones; the last few also stay open in memory."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Extraction
from vitbench.data import disk_cache
from vitbench.data.disk_cache import ArrayCache, ArrayWriter

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

DEFAULT_LIMIT_BYTES = 50 * 2**30
SUFFIX = ".npy"
HELD_BYTES = 2**30  # of features; larger ones are read from their files
PLACE = {
    "key",
    "images",
    "shared",
}  # of an extraction: what depends on who reads it, or stands elsewhere in a sidecar


def limit_bytes() -> int:
    """The limit of the cache: $VITBENCH_FEATURES_GB, else 50 GiB; 0 caches nothing."""
    return disk_cache.limit_from("VITBENCH_FEATURES_GB", DEFAULT_LIMIT_BYTES)


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    if dtype.hasobject:
        raise TypeError(f"features are numbers, not {dtype}")
    header = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


@dataclass(frozen=True)
class FeatureCache:
    """Features (N, D) by digest of everything that changes them, as .npy files; sidecars state what computing them took."""

    folder: Path
    limit_bytes: int = field(default_factory=limit_bytes)
    held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)
    extractions: dict[str, Extraction] = field(default_factory=dict)
    most_held: int = 6

    @cached_property
    def _arrays(self) -> ArrayCache:
        return ArrayCache(self.folder, SUFFIX, self.limit_bytes, _npy_header)

    def get(self, key: str) -> Tensor | None:
        """The features of a key, memory-mapped; None if they are not cached or the file is damaged."""
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        array = self._arrays.open(key, mode="c")  # copy on write: a protocol's changes never reach the file
        return None if array is None else self._hold(key, torch.from_numpy(array))

    def own(self, key: str, features: Tensor, rows: slice) -> Tensor:
        """Rows of the features of a key, for a reader that may change them: copied, or mapped anew if they are large."""
        if features[rows].nbytes <= HELD_BYTES:
            return features[rows].clone()
        array = self._arrays.open(key, mode="c", check=False)
        return features[rows].clone() if array is None else torch.from_numpy(array)[rows]

    def put(
        self, incoming: IncomingFeatures, facts: dict[str, Any], extraction: Extraction | None = None
    ) -> Tensor:
        """Cache features whose batches have all come in, with facts about them. A full disk does not fail the job."""
        if extraction is not None:
            self.extractions[incoming.key] = extraction
            facts = {**facts, "extraction": extraction.model_dump(exclude=PLACE)}
        return self._hold(incoming.key, incoming.finish(facts))

    def incoming(self, key: str, images: int) -> IncomingFeatures:
        """Features of so many images, to be cached batch by batch."""
        return IncomingFeatures(self._arrays, key, images)

    def extraction(self, key: str, images: int) -> Extraction:
        """How cached features of so many images were computed, as another job sees it; older sidecars do not say."""
        if key not in self.extractions:
            self.extractions[key] = self._read_extraction(key, images)
        return self.extractions[key].model_copy(update={"shared": True})

    def _read_extraction(self, key: str, images: int) -> Extraction:
        unknown = {"key": key, "images": images, "shared": True}
        try:
            return Extraction.model_validate({**self._arrays.facts(key)["extraction"], **unknown})
        except (OSError, ValueError, KeyError, TypeError):
            return Extraction.model_validate(unknown)

    def _hold(self, key: str, features: Tensor) -> Tensor:
        self.held[key] = features
        while len(self.held) > self.most_held:
            self.held.popitem(last=False)
        return features


@dataclass
class IncomingFeatures:
    """Features (N, D) on their way into the cache, batch by batch: in memory if they are few, and in the cache's file.

    What the file cannot take is held in memory.
    """

    arrays: ArrayCache
    key: str
    images: int
    batches: list[Tensor] = field(default_factory=list)
    writer: ArrayWriter | None = None
    begun: bool = False

    def add(self, batch: Tensor) -> None:
        """Take the features (B, D) of the next images, on the CPU."""
        rows = batch.numpy()
        if not self.begun:
            self.begun = True
            self.writer = self.arrays.writer(self.key, (self.images, *rows.shape[1:]), rows.dtype)
        if self.writer is not None and not self.writer.add(rows):
            self._give_up(self.writer)
        if self.writer is None or self._are_few(batch):
            self.batches.append(batch)

    def _are_few(self, batch: Tensor) -> bool:
        return self.images * batch[:1].nbytes <= HELD_BYTES

    def _give_up(self, writer: ArrayWriter) -> None:
        """Go on in memory."""
        if not self.batches and writer.written:
            self.batches.append(torch.from_numpy(writer.rows()))
        writer.abandon()
        self.writer = None

    def finish(self, facts: dict[str, Any]) -> Tensor:
        """All features (N, D), visible to other readers if the cache's file has them."""
        if self.writer is None:
            return torch.cat(self.batches)
        found = torch.cat(self.batches) if self.batches else torch.from_numpy(self.writer.rows())
        self.writer.facts = facts
        self.writer.finish(flush=True)
        return found

    def abandon(self) -> None:
        """Delete what has been written, unless it is finished."""
        if self.writer is not None:
            self.writer.abandon()
