"""A backbone's forward pass in extraction: as it is, or compiled where that pays (docs/protocols.md#compiled-extraction)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vitbench.api import Backbone
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.compiled import Forward, apart, compiled, is_wanted
from vitbench.compute.compiling import pass_pays

Verdicts = WeakKeyDictionary[Backbone, dict[tuple[str, int], str]]
COMPILED = "compiled ("  # how the note of a compiled network begins


@dataclass(frozen=True)
class ForwardPass:
    """Features (B, D) float32 of normalised images (B, 3, S, S), on the device, by one backbone in one precision."""

    backbone: Backbone
    device: str
    dtype: str

    def __call__(self, images: Tensor) -> Tensor:
        """The features by the backbone as it is."""
        return self._by(self.backbone.features, images)

    def _by(self, features: Forward, images: Tensor) -> Tensor:
        mixed = torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.dtype == "bfloat16")
        with torch.no_grad(), mixed:
            return features(images).float()

    def compiles(self, images: int, flops_per_image: Callable[[], int | None]) -> bool:
        """Whether a pass over so many images is to be compiled. That depends on nothing else, so it can be part of a key."""

        def is_long() -> bool:
            return pass_pays(images, flops_per_image() or 0)

        module: Any = self.backbone
        return images > 0 and is_wanted(module, self.device.startswith("cuda"), is_long)

    def compiled(self, size: BatchSize, verdicts: Verdicts) -> tuple[Forward | None, str]:
        """The pass compiled for whole batches, to which others are padded, if it computes the same; else None. And a note.

        `verdicts` are the notes of networks that have been compared: each is once, in a precision and with a batch size.
        """
        known = verdicts.setdefault(self.backbone, {})
        place = self.dtype, size.choose(self)
        features: Forward = self.backbone.features
        found: Forward | None = None
        if place not in known:
            found, known[place] = compiled(features, partial(self._difference, size.size), self.dtype)
        elif known[place].startswith(COMPILED):
            found = torch.compile(features, dynamic=False)
        return None if found is None else partial(self._padded, found, size), known[place]

    def _difference(self, count: int, found: Forward) -> float:
        """How far a compiled network's features are from those of the network as it is, of made-up images."""
        px, generator = self.backbone.input.size_px, torch.Generator(self.device).manual_seed(0)
        images = torch.randn(count, 3, px, px, device=self.device, generator=generator)
        images = images.contiguous(memory_format=torch.channels_last)
        return apart(self(images), self._by(found, images))

    def _padded(self, found: Forward, size: BatchSize, images: Tensor) -> Tensor:
        """Features of a batch that may be smaller: the compiled network sees whole batches only."""
        count = len(images)
        if count < size.size:
            images = torch.cat([images, images.new_zeros(size.size - count, *images.shape[1:])])
            images = images.contiguous(memory_format=torch.channels_last)
        return self._by(found, images)[:count]
