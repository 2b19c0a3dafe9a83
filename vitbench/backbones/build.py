"""Build a backbone from its name and options: with weights, or on the meta device for shapes only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.registry import BACKBONES, StatedFacts
from vitbench.core.seeding import seeded


def build(
    spec: str,
    options: Mapping[str, Any],
    label: str = "",
    size_px: int | None = None,
    *,
    meta: bool = False,
) -> BuiltBackbone:
    """Build a registered backbone, at image size `size_px` if given.

    torch's global generator is seeded, so a plugin's random weights are the same in every process. With `meta`, the backbone
    has shapes but no weights; nothing is loaded or downloaded where the backbone's options allow it.

    Raises:
        UsageError: no backbone has that name, an option is invalid, or the backbone works at another image size only.
    """
    accepted = BACKBONES.get(spec)[0].options.model_fields
    if meta and "pretrained" in accepted:
        without = {"pretrained": False, "checkpoint": None}
        options = {**options, **{name: value for name, value in without.items() if name in accepted}}
    with on_meta() if meta else contextlib.nullcontext(), seeded(0, "construction"):
        entry, module = BACKBONES.make(spec, options)
        stated = StatedFacts.model_validate(dict(options))
        backbone = BuiltBackbone(module, label or spec, entry.labels, stated)
        if size_px is not None:
            backbone = backbone.at_resolution(size_px)
    return backbone.to("meta").eval() if meta else backbone
