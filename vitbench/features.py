"""Features of pictures at the speed of the forward pass, kept on disk for every job that needs the same ones."""

from __future__ import annotations

import io
import json
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitbench.api import Backbone, Split
from vitbench.data.decoded import DecodedStore
from vitbench.data.loader import batches
from vitbench.data.preprocess import Preprocess, normalise
from vitbench.files import digest_bytes, write_atomically

BATCH = {"cpu": 64, "cuda": 256}
# A draw is read with all that it was drawn from, for other shots and seeds, if that is little more or little altogether.
POOL_ALWAYS = 8_192
POOL_SHARE = 20
FORMAT = 1  # raise it when the same key would hold other numbers


@dataclass(frozen=True)
class FeatureStore:
    """Arrays (N, D) float32 on disk, by digest of everything that changes them; the last few also in memory."""

    folder: Path
    held: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)
    most_held: int = 6

    def get(self, key: str) -> Tensor | None:
        """The features of a key, or None if there are none or the file is damaged."""
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        try:
            facts = json.loads((self.folder / f"{key}.json").read_text())
            data = (self.folder / f"{key}.npy").read_bytes()
        except (OSError, ValueError):
            return None
        if zlib.crc32(data) != facts.get("crc32"):
            return None
        array: Any = np.load(io.BytesIO(data), allow_pickle=False)
        return self._hold(key, torch.from_numpy(array))

    def put(self, key: str, features: Tensor, facts: dict[str, Any]) -> Tensor:
        """Keep features (N, D) under a key; the sidecar with their checksum is written last."""
        buffer = io.BytesIO()
        np.save(buffer, features.numpy(), allow_pickle=False)
        data = buffer.getvalue()
        write_atomically(self.folder / f"{key}.npy", data)
        sidecar = {**facts, "crc32": zlib.crc32(data), "shape": list(features.shape)}
        write_atomically(self.folder / f"{key}.json", json.dumps(sidecar, indent=1))
        return self._hold(key, features)

    def _hold(self, key: str, features: Tensor) -> Tensor:
        self.held[key] = features
        while len(self.held) > self.most_held:
            self.held.popitem(last=False)
        return features


@dataclass(frozen=True)
class FeatureReader:
    """Features of one backbone under one preprocessing.

    `pools` are the task's whole splits: a draw from one takes its rows from the pool's features, so that all shots and seeds
    share one extraction. What is extracted depends on the job alone, never on what happens to be cached.
    """

    backbone: Backbone
    preprocess: Preprocess
    device: str
    dtype: str
    store: FeatureStore
    identity: dict[str, Any]
    pools: tuple[Split, ...]
    report: Callable[[int, int], None]
    images_forward: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    decoded: DecodedStore | None = None

    def __call__(self, split: Split) -> Tensor:
        """Features (N, D) float32 on the device."""
        pool = self._pool_of(split)
        order = np.argsort(pool.indices)
        rows = order[np.searchsorted(pool.indices, split.indices, sorter=order)]
        return self._stored(pool)[torch.from_numpy(rows)].to(self.device)

    def _pool_of(self, split: Split) -> Split:
        """A whole split of the same source that holds these examples, unless they are few of many; else they alone."""
        for pool in self.pools:
            fits = len(pool) <= max(POOL_ALWAYS, POOL_SHARE * len(split))
            if pool.source is split.source and fits and np.isin(split.indices, pool.indices).all():
                return pool
        order = np.unique(split.indices)
        return Split(split.source, order, np.zeros(len(order), dtype=np.int64))

    def _stored(self, pool: Split) -> Tensor:
        facts = {
            **self.identity,
            "format": FORMAT,
            "source": pool.source.fingerprint,
            "indices": digest_bytes(pool.indices.tobytes()),
        }
        key = digest_bytes(json.dumps(facts, sort_keys=True, default=str).encode())[:32]
        found = self.store.get(key)
        if found is None:
            start = time.perf_counter()
            found = self.store.put(key, self.extract(self.backbone, pool), facts)
            self.images_forward.append(len(pool))
            self.seconds.append(time.perf_counter() - start)
        return found

    def extract(self, backbone: Backbone, split: Split) -> Tensor:
        """Features (N, D) float32 on the CPU, computed now, in the split's order."""
        parts: list[Tensor] = []
        done = 0
        half = self.dtype == "bfloat16"
        spec = self.backbone.input
        with torch.no_grad():
            for batch in self.pixel_batches(split):
                images = normalise(batch.to(self.device, non_blocking=True), spec.mean, spec.std)
                images = images.contiguous(memory_format=torch.channels_last)
                with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=half):
                    parts.append(backbone.features(images).float())
                done += len(images)
                self.report(done, len(split))
        return torch.cat(parts).cpu() if parts else torch.empty(0, backbone.feature_dim)

    def pixel_batches(self, split: Split) -> Iterator[Tensor]:
        """Preprocessed pixels (B, 3, S, S) in the split's order; see `vitbench.data.loader.batches`."""
        return batches(split, self.preprocess, self.device, BATCH[self.device.split(":")[0]], self.decoded)
