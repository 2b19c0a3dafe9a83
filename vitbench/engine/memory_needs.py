"""What training takes of a GPU's memory, by backbone, from counts that ship with the catalog's networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vitbench.compute.core_days import Device
from vitbench.compute.roofline import images_at_once
from vitbench.core.job import Job
from vitbench.engine.network_costs import Networks
from vitbench.engine.speeds import Work

WEIGHTS_BYTES = 3 * 4  # a parameter's value, gradient and momentum, in float32


@dataclass(frozen=True)
class MemoryNeed:
    """Of one backbone: what weights take, and each image of a step in bfloat16; images that fit a named card at once."""

    backbone: str
    size_px: int
    weights_bytes: int
    image_bytes: int
    at_once: int | None


def memory_needs(
    networks: Networks, first: Mapping[str, Job], work: Iterable[Work], card: Device | None
) -> Iterator[MemoryNeed]:
    """The needs of all backbones that are trained and were counted, each at every image size."""
    trained = dict.fromkeys((each.backbone, each.size_px) for each in work if each.images_backward)
    for key, size_px in trained:
        counts, cost = networks.counts(first[key], size_px), networks.cost(key, first[key])
        if counts is not None:
            at_once = images_at_once(counts, cost.params, card) if card else None
            yield MemoryNeed(
                first[key].backbone.label,
                size_px,
                WEIGHTS_BYTES * cost.params,
                counts.activation_bytes,
                at_once,
            )
