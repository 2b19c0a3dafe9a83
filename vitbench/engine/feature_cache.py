"""Features on disk, for every job and protocol that needs the same ones: memory-mapped, checksummed, limited in size."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitbench.core.lazy_import import lazy_module
from vitbench.data import disk_cache

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

DEFAULT_LIMIT_BYTES = 50 * 2**30
SUFFIX = ".npy"


def limit_bytes() -> int:
    """How much may be kept: $VITBENCH_FEATURES_GB, else 50 GiB; 0 keeps nothing."""
    return disk_cache.limit_from("VITBENCH_FEATURES_GB", DEFAULT_LIMIT_BYTES)


@dataclass(frozen=True)
class FeatureCache:
    """Arrays (N, D) on disk, by digest of everything that changes them; the last few also open."""

    folder: Path
    limit_bytes: int = field(default_factory=limit_bytes)
    held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)
    most_held: int = 6

    def get(self, key: str) -> Tensor | None:
        """The features of a key, mapped into memory; None if there are none or the file is damaged."""
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        facts = disk_cache.read_facts(self.folder / f"{key}.json")
        if facts is None:
            return None
        try:
            # Copy on write: what a protocol does to its features never reaches the file.
            array: NDArray[Any] = np.load(self.folder / f"{key}{SUFFIX}", mmap_mode="c", allow_pickle=False)
            stated = (facts.get("shape"), facts.get("dtype"), facts.get("crc32"))
            if stated != (list(array.shape), str(array.dtype), disk_cache.crc32(array)):
                return None
            found = torch.from_numpy(array)
        except Exception:  # noqa: BLE001  a damaged header raises anything; the features are computed again
            return None
        return self._hold(key, found)

    def put(self, key: str, features: Tensor, facts: dict[str, Any]) -> Tensor:
        """Keep features (N, D) under a key; the sidecar with their checksum is written last. A full disk costs no job."""
        array = features.numpy()
        with contextlib.suppress(OSError):
            self._keep(key, array, facts)
        return self._hold(key, features)

    def _keep(self, key: str, array: NDArray[Any], facts: dict[str, Any]) -> None:
        if array.nbytes <= self.limit_bytes:
            self._write(key, array)
            sidecar = {
                **facts,
                "crc32": disk_cache.crc32(array),
                "shape": list(array.shape),
                "dtype": str(array.dtype),
            }
            disk_cache.write_facts(self.folder / f"{key}.json", sidecar)
            disk_cache.trim(self.folder, SUFFIX, self.limit_bytes)

    def _write(self, key: str, array: NDArray[Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.folder / f"{key}{SUFFIX}")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _hold(self, key: str, features: Tensor) -> Tensor:
        self.held[key] = features
        while len(self.held) > self.most_held:
            self.held.popitem(last=False)
        return features
