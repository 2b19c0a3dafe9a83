"""The costs of the catalog's networks, counted once and shipped, so that plans of them need neither torch nor the networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vitbench.compute.roofline import PassCounts

FILE = Path(__file__).with_name("network_costs.json")  # made by tests/making/network_costs.py
# Options that change what a pass costs, with the values that were counted.
COUNTED_WITH = {"pooling": "own", "last_layers": 1, "patch_px": None}


@dataclass(frozen=True)
class KnownCost:
    """The cost of one network: parameters, width of features, its own image size, and what passes cost by image size.

    `convolutions` are its convolutional layers, which decide whether it is compiled.
    """

    params: int
    feature_dim: int
    size_px: int
    convolutions: int
    sizes: Mapping[int, PassCounts]
    rounded: tuple[int, ...]  # sizes that patches do not fill: the network is of the next size that they do


@cache
def _all() -> dict[str, KnownCost]:
    return {
        spec: KnownCost(
            cost["params"],
            cost["feature_dim"],
            cost["size_px"],
            cost["convolutions"],
            {int(size): PassCounts(**counts) for size, counts in cost["sizes"].items()},
            tuple(cost["rounded"]),
        )
        for spec, cost in json.loads(FILE.read_text(encoding="utf-8")).items()
    }


def known_cost(spec: str, options: Mapping[str, Any]) -> KnownCost | None:
    """The cost of a network with these options; None if it was not counted with them."""
    counted = all(options.get(name, value) == value for name, value in COUNTED_WITH.items())
    return _all().get(spec) if counted else None
