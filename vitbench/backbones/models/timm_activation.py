"""The activation that the weights of timm's hub were trained with, where timm's network has another under the same name."""

from __future__ import annotations

from typing import Any

from timm.layers import GELUTanh
from timm.models import get_pretrained_cfg, is_model

from vitbench.backbones.catalog import has_tanh_gelu


def with_quick_gelu(name: str) -> str:
    """Return the name under which timm has the same weights with QuickGELU, if it has: they were trained with it."""
    architecture, _, _ = name.partition(".")
    other = architecture.replace("_clip_", "_clip_quickgelu_")
    if other == architecture or "quickgelu" in architecture or not is_model(other):
        return name
    try:
        own = get_pretrained_cfg(name)
        quick = get_pretrained_cfg(f"{other}.{own.tag}" if own else other)
    except RuntimeError:  # there are no weights of this tag
        return name
    if own is None or quick is None or not quick.hf_hub_id or quick.hf_hub_id != own.hf_hub_id:
        return name
    return f"{other}.{own.tag}"


def trained_activation(name: str) -> dict[str, Any]:
    """Return timm's option that builds a network with tanh GELU, if the weights of this name were trained with it; else {}."""
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:  # there are no weights of this tag
        return {}
    full_name = f"timm:{name.partition('.')[0]}.{config.tag if config else ''}"
    return {"act_layer": GELUTanh} if has_tanh_gelu(full_name) else {}
