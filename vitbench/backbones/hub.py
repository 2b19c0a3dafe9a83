"""Registers `hf:NAME`, vision models of Hugging Face transformers, and `open_clip:NAME`, image encoders of open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn

SizePx = Annotated[int, Field(ge=1, le=4096)]


@register_backbone(
    "hf", libraries=("transformers", "torch"), version=2, argument="model", family="transformers"
)
def transformers_backbone(
    model: str | Path,  # a folder of that name comes before the hub's
    *,
    revision: str = "main",
    pooling: Literal["own", "class_token", "patch_mean"] = "own",
    size_px: SizePx | None = None,
) -> nn.Module:
    """A vision model of Hugging Face transformers, with its processor's image size, mean and std; needs the extra `hub`.

    Args:
        model: a model id on the Hugging Face Hub, or a folder saved by `save_pretrained`. Code from the hub is never executed.
        revision: branch, tag or commit of the hub repository.
        pooling: `own` is the input of the checkpoint's classifier; without one, the pooled output if its weights are in the
            checkpoint, else the class token. Or take the class token or the mean patch token.
        size_px: image size in pixels; default: the processor's.
    """
    from vitbench.backbones.models.hub_access import ask_early

    if not Path(model).is_dir():
        ask_early()
    from vitbench.backbones.models.hf import TransformersBackbone

    return TransformersBackbone.build(str(model), revision, pooling, size_px)


@register_backbone("open_clip", libraries=("open_clip", "torch"), argument="model", family="CLIP")
def open_clip_backbone(model: str, *, weights: str = "", init_seed: int = 0) -> nn.Module:
    """An image encoder of open_clip, with its own image size, mean and std; needs the extra `hub`.

    Args:
        model: open_clip's name, such as ViT-B-32.
        weights: open_clip's tag of the weights, such as laion2b_s34b_b79k, or a checkpoint; empty: randomly initialised.
        init_seed: seed of the random initialisation, if no weights are loaded.
    """
    from vitbench.backbones.models.hub import OpenClipBackbone

    return OpenClipBackbone.build(model, weights, init_seed)
