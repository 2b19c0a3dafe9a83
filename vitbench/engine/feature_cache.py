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
from vitbench.data.disk_cache import ArrayCache

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

DEFAULT_LIMIT_BYTES = 50 * 2**30
SUFFIX = ".npy"
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

    def put(
        self, key: str, features: Tensor, facts: dict[str, Any], extraction: Extraction | None = None
    ) -> Tensor:
        """Cache features (N, D) under a key, with facts about them in the sidecar. A full disk does not fail the job."""
        if extraction is not None:
            self.extractions[key] = extraction
            facts = {**facts, "extraction": extraction.model_dump(exclude=PLACE)}
        self._arrays.put(key, features.numpy(), facts)
        return self._hold(key, features)

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
