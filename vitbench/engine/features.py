"""Extracting features, and reading them from the cache for every job that needs the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from vitbench.api import Backbone, Split
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.environment import describe
from vitbench.compute.meter import Meter, Span, outside
from vitbench.core.files import digest_bytes
from vitbench.core.job import FeatureDtype
from vitbench.core.record import Extraction
from vitbench.data.budgets import read_for
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import batches
from vitbench.data.preprocess import Preprocess, normalise
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.outcome import now

BATCH = 64  # of pixels that are not passed to a model
FORMAT = 3  # raise it when features of the same key would change


@dataclass(frozen=True)
class FeatureReader:
    """Features of one backbone under one preprocessing.

    `pools` are the task's whole splits. A draw takes its rows from its pool's features, so that all shots and seeds share one
    extraction. Which images are extracted depends on the job alone, never on the contents of the cache. `warm` has the networks
    that have run in this process, with their precisions; others run once before they are timed.
    """

    backbone: Backbone
    preprocess: Preprocess
    device: str
    dtype: str
    store: FeatureCache
    identity: dict[str, Any]
    pools: tuple[Split, ...]
    report: Callable[[int, int], None]
    meter: Meter
    decoded: DecodedCache | None = None
    feature_dtype: FeatureDtype = "float32"
    flops_per_image: Callable[[], int | None] = lambda: None
    devices: int = 1
    warm: WeakKeyDictionary[Backbone, set[str]] | None = None

    def __call__(self, split: Split) -> Tensor:
        """Features (N, D) float32 on the device."""
        pool = read_for(split, self.pools)
        order = np.argsort(pool.indices)
        rows = order[np.searchsorted(pool.indices, split.indices, sorter=order)]
        facts = self._facts(pool)
        key = digest_bytes(json.dumps(facts, sort_keys=True, default=str).encode())[:32]
        found = self._stored(key, pool, facts)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            chosen = self.store.own(key, found, slice(int(rows[0]), int(rows[-1]) + 1))
        else:
            chosen = found[torch.from_numpy(rows)]
        return chosen.to(self.device).float()

    def _facts(self, pool: Split) -> dict[str, Any]:
        """Everything that changes the features of a pool."""
        return {
            **self.identity,
            "format": FORMAT,
            "feature_dtype": self.feature_dtype,
            "source": pool.source.fingerprint,
            "indices": digest_bytes(pool.indices.tobytes()),
        }

    def _stored(self, key: str, pool: Split, facts: dict[str, Any]) -> Tensor:
        with outside("cache", waits=False):
            found = self.store.get(key)
        if found is None:
            return self._extracted(key, pool, facts)
        self.meter.extractions.setdefault(key, self.store.extraction(key, len(pool)))
        return found

    def _extracted(self, key: str, pool: Split, facts: dict[str, Any]) -> Tensor:
        """Features of a pool that are not cached yet. Batches are written as they come: a large pool's are never held."""
        incoming = self.store.incoming(key, len(pool))
        try:
            with self.meter.phase("features") as span:
                for batch in self._batches(self.backbone, pool):
                    with outside("cache", waits=False):
                        incoming.add(batch.to(getattr(torch, self.feature_dtype)))
            extraction = self._measured(key, len(pool), span)
            with outside("cache", waits=False):
                found = self.store.put(incoming, facts, extraction)
        finally:
            incoming.abandon()
        self.meter.extractions.setdefault(key, extraction)
        return found

    def _measured(self, key: str, images: int, span: Span) -> Extraction:
        """What an extraction took. All ranks of a distributed job extract the same."""
        with outside("warm-up"):
            each = self.flops_per_image()
        return Extraction(
            key=key,
            images=images,
            shared=False,
            device=describe(self.device).device,
            devices=self.devices,
            seconds=span.seconds,
            core_seconds=self.devices * span.core_seconds if self.device == "cpu" else None,
            flops=None if each is None else each * images,
            energy_joules=None if span.joules is None else self.devices * span.joules,
            peak_memory_bytes=span.peak_bytes,
            created=now(),
        )

    def extract(self, backbone: Backbone, split: Split) -> Tensor:
        """Features (N, D) float32 on the CPU, in the split's order, never from the cache."""
        self.meter.images_forward += len(split)
        return torch.cat(list(self._batches(backbone, split)))

    def _batches(self, backbone: Backbone, split: Split) -> Iterator[Tensor]:
        """Yield the features of a split in batches (B, D) float32 on the CPU; an empty one if it has no image."""
        done = 0
        spec = self.backbone.input
        size = BatchSize(
            self.device, spec.size_px, self.identity | {"dtype": self.dtype}, self.store.folder / "batch"
        )

        def forward(images: Tensor) -> Tensor:
            kind = self.device.split(":")[0]
            mixed = torch.autocast(kind, torch.bfloat16, enabled=self.dtype == "bfloat16")
            with torch.no_grad(), mixed:
                return backbone.features(images).float()

        count = size.choose(forward)
        self._warm_up(backbone, lambda images: size.run(forward, images), min(count, len(split)))
        for batch in self.pixel_batches(split, count):
            images = normalise(batch.to(self.device, non_blocking=True), spec.mean, spec.std)
            images = images.contiguous(memory_format=torch.channels_last)
            found = size.run(forward, images).cpu()
            done += len(images)
            self.report(done, len(split))
            yield found
        if not done:
            yield torch.empty(0, backbone.feature_dim)

    def _warm_up(self, backbone: Backbone, forward: Callable[[Tensor], Tensor], most: int) -> None:
        """Run a new network once: libraries load their kernels at its first images. A GPU needs a whole batch for that."""
        if self.warm is None:
            return
        seen = self.warm.setdefault(backbone, set())
        if most and self.dtype not in seen:
            seen.add(self.dtype)
            size_px, count = backbone.input.size_px, most if self.device.startswith("cuda") else 1
            with outside("warm-up"):
                images = torch.zeros(count, 3, size_px, size_px, device=self.device)
                forward(images.contiguous(memory_format=torch.channels_last))

    def pixel_batches(self, split: Split, size: int = BATCH) -> Iterator[Tensor]:
        """Preprocessed pixels (B, 3, S, S) in the split's order; see `vitbench.data.loader.batches`."""
        return batches(split, self.preprocess, self.device, size, self.decoded)
