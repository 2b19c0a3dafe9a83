"""Extracting features, and reading them from the cache for every job that needs the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from vitbench.api import Backbone, Split
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.compiled import Forward
from vitbench.compute.environment import describe
from vitbench.compute.meter import Meter, Span, outside
from vitbench.core.files import digest_bytes
from vitbench.core.job import FeatureDtype
from vitbench.core.record import Extraction
from vitbench.data.budgets import read_for
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import batches
from vitbench.data.preprocess import Preprocess, normalise
from vitbench.data.transfer import fetched
from vitbench.data.writer_thread import WriterThread
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.forward_pass import ForwardPass, Verdicts
from vitbench.engine.outcome import now

BATCH = 64  # of pixels that are not passed to a model
FORMAT = 3  # raise it when features of the same key would change


@dataclass(frozen=True)
class FeatureReader:
    """Features of one backbone under one preprocessing.

    `pools` are the task's whole splits. A draw takes its rows from its pool's features, so that all shots and seeds share one
    extraction. Which images are extracted depends on the job alone, never on the contents of the cache. `warm` has the networks
    that have run in this process, with their precisions; others run once before they are timed. `verdicts` has those that have
    been compiled.
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
    note: Callable[[str], None] = lambda _text: None
    verdicts: Verdicts = field(default_factory=WeakKeyDictionary)

    def __call__(self, split: Split) -> Tensor:
        """Features (N, D) float32 on the device."""
        pool = read_for(split, self.pools)
        order = np.argsort(pool.indices)
        rows = order[np.searchsorted(pool.indices, split.indices, sorter=order)]
        key, found = self._whole(pool)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            chosen = self.store.own(key, found, slice(int(rows[0]), int(rows[-1]) + 1))
        else:
            chosen = found[torch.from_numpy(rows)]
        return chosen.to(self.device).float()

    def _whole(self, pool: Split) -> tuple[str, Tensor]:
        """The features of a pool, and their key: those of a compiled network have another."""
        facts, forward = self._facts(pool), self._forward(self.backbone)
        if self._is_compiled(forward, len(pool)):
            compiled = {**facts, "compiled": True}
            if (found := self._cached(compiled, len(pool))) is not None:
                return _key(compiled), found
            faster, note = self._compiled(forward)
            if faster is not None:
                return _key(compiled), self._extracted(compiled, pool, faster, note)
        found = self._cached(facts, len(pool))
        return _key(facts), self._extracted(facts, pool, forward) if found is None else found

    def _facts(self, pool: Split) -> dict[str, Any]:
        """Everything that changes the features of a pool."""
        return {
            **self.identity,
            "format": FORMAT,
            "feature_dtype": self.feature_dtype,
            "source": pool.source.fingerprint,
            "indices": digest_bytes(pool.indices.tobytes()),
        }

    def _cached(self, facts: dict[str, Any], images: int) -> Tensor | None:
        key = _key(facts)
        with outside("cache", waits=False):
            found = self.store.get(key)
        if found is not None:
            self._charge(self.store.extraction(key, images))
        return found

    def _charge(self, extraction: Extraction) -> None:
        """Count an extraction as part of the job's cost."""
        self.meter.extractions.setdefault(extraction.key, extraction)
        if extraction.compiled:
            self.note(f"features: {extraction.compiled}")

    def _extracted(self, facts: dict[str, Any], pool: Split, forward: Forward, note: str = "") -> Tensor:
        """Features of a pool that are not cached yet. Batches are written as they come: a large pool's are never held."""
        key = _key(facts)
        incoming = self.store.incoming(key, len(pool))
        try:
            with WriterThread() as behind:
                with self.meter.phase("features") as span:
                    for batch in self._batches(self.backbone, pool, forward):
                        with outside("cache", waits=False):
                            behind(incoming.add, batch.to(getattr(torch, self.feature_dtype)))
                with outside("cache", waits=False):
                    behind.finish()
            extraction = self._measured(key, len(pool), span, note)
            with outside("cache", waits=False):
                found = self.store.put(incoming, facts, extraction)
        finally:
            incoming.abandon()
        self._charge(extraction)
        return found

    def _measured(self, key: str, images: int, span: Span, compiled: str) -> Extraction:
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
            compiled=compiled,
        )

    def extract(self, backbone: Backbone, split: Split) -> Tensor:
        """Features (N, D) float32 on the CPU, in the split's order, never from the cache."""
        self.meter.images_forward += len(split)
        forward = self._forward(backbone)
        faster = self._compiled(forward)[0] if self._is_compiled(forward, len(split)) else None
        return torch.cat(list(self._batches(backbone, split, forward if faster is None else faster)))

    def _forward(self, backbone: Backbone) -> ForwardPass:
        return ForwardPass(backbone, self.device, self.dtype)

    def _is_compiled(self, forward: ForwardPass, images: int) -> bool:
        with outside("warm-up", waits=False):  # FLOPs may have to be counted
            return forward.compiles(images, self.flops_per_image)

    def _compiled(self, forward: ForwardPass) -> tuple[Forward | None, str]:
        """The pass compiled, or None if it cannot be, and a note, which the record has too."""
        found, note = forward.compiled(self._size, self.verdicts)
        self.note(f"features: {note}")
        return found, note

    @cached_property
    def _size(self) -> BatchSize:
        identity = self.identity | {"dtype": self.dtype}
        return BatchSize(self.device, self.backbone.input.size_px, identity, self.store.folder / "batch")

    def _batches(self, backbone: Backbone, split: Split, forward: Forward) -> Iterator[Tensor]:
        """Yield the features of a split in batches (B, D) float32 on the CPU; an empty one if it has no image."""
        done, size = 0, self._size
        count = size.choose(forward)
        if isinstance(forward, ForwardPass):  # a compiled one has run
            self._warm_up(backbone, lambda images: size.run(forward, images), min(count, len(split)))
        for found in fetched(self._run(size, forward, self.pixel_batches(split, count))):
            done += len(found)
            self.report(done, len(split))
            yield found
        if not done:
            yield torch.empty(0, backbone.feature_dim)

    def _run(self, size: BatchSize, forward: Forward, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield features on the device; a GPU may still be computing them."""
        spec = self.backbone.input
        for batch in batches:
            images = normalise(batch.to(self.device, non_blocking=True), spec.mean, spec.std)
            yield size.run(forward, images.contiguous(memory_format=torch.channels_last))

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


def _key(facts: dict[str, Any]) -> str:
    """The cache key of features: the digest of everything that changes them."""
    return digest_bytes(json.dumps(facts, sort_keys=True, default=str).encode())[:32]
