"""A backbone's name and options become a built backbone: with its weights, or on the meta device for shapes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import seeded


def build(
    spec: str,
    options: Mapping[str, Any],
    label: str = "",
    size_px: int | None = None,
    *,
    meta: bool = False,
) -> BuiltBackbone:
    """Build a registered backbone, at another image size if one is given.

    Weights that a plugin draws from torch's global generator are the same in every process. With `meta` it has shapes and no
    weights: nothing is loaded or downloaded where that can be avoided.

    Raises:
        UsageError: nothing has that name, it does not take these options, or it is tied to its own image size.
    """
    taken = BACKBONES.get(spec)[0].options.model_fields
    if meta and "pretrained" in taken:
        options = {**options, "pretrained": False, "checkpoint": None}
    with torch.device("meta") if meta else contextlib.nullcontext(), seeded(0, "construction"):
        entry, module = BACKBONES.make(spec, options)
        backbone = BuiltBackbone(module, label or spec, entry.labels)
        if size_px is not None:
            backbone = backbone.at_resolution(size_px)
    return backbone.to("meta").eval() if meta else backbone
