"""Vision models of Hugging Face transformers, `hf:NAME`, and open_clip's image towers, `open_clip:NAME`: optional extras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn

Side = Annotated[int, Field(ge=1, le=4096)]


@register_backbone("hf", argument="model", family="transformers")
def transformers_backbone(
    model: str,
    *,
    revision: str = "main",
    pooling: Literal["own", "class_token", "patch_mean"] = "own",
    size_px: Side | None = None,
    pretrain_data: str = "unknown",
) -> nn.Module:
    """A vision model of Hugging Face transformers, with its own processor's size, mean and std; an extra: `hub`.

    Args:
        model: a name on the hub, or a folder that it was saved to. Code from the hub is never executed.
        revision: branch, tag or commit on the hub.
        pooling: the model's own pooled output if it has one, its class token, or the mean of its patches.
        size_px: side of the images, if not the processor's.
        pretrain_data: what it was trained on, for the board.
    """
    from vitbench.backbones.models.hub import TransformersBackbone

    return TransformersBackbone.build(model, revision, pooling, size_px, pretrain_data)


@register_backbone("open_clip", argument="model", family="CLIP")
def open_clip_backbone(
    model: str, *, weights: str = "", pretrain_data: str = "unknown", init_seed: int = 0
) -> nn.Module:
    """An image tower of open_clip, with its own size, mean and std; an extra: `hub`.

    Args:
        model: open_clip's name, such as ViT-B-32.
        weights: the tag of its weights, such as laion2b_s34b_b79k, or a file; none gives seeded initial weights.
        pretrain_data: what it was trained on, for the board.
        init_seed: seed of the initial weights when nothing is loaded.
    """
    from vitbench.backbones.models.hub import OpenClipBackbone

    return OpenClipBackbone.build(model, weights, pretrain_data, init_seed)
