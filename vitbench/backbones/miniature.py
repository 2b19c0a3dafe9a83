"""Registers `miniature:NAME`: networks that ship with vitbench, pre-trained on images made by formula (reports/miniatures)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vitbench.backbones.miniature_records import digest, pretrainings
from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn

SizePx = Annotated[int, Field(ge=1, le=4096)]


def _not_a_miniature(name: str) -> list[str] | None:
    return None if name in pretrainings() else list(pretrainings())


@register_backbone(
    "miniature",
    libraries=("timm", "torch"),
    argument="checkpoint",
    unknown_argument=_not_a_miniature,
    data=lambda _options: digest(),
    family="miniature",
)
def miniature(
    checkpoint: str, *, pretrained: bool = True, size_px: SizePx | None = None, init_seed: int = 0
) -> nn.Module:
    """A ViT, a BiT-style ResNet or a hybrid of 0.2 M parameters for 32 px, pre-trained at one of four compute budgets.

    Args:
        checkpoint: family and budget: vit-1 to vit-4, bit-1 to bit-4, hybrid-1 to hybrid-4.
        pretrained: load the weights; false: randomly initialised, and marked as untrained in reports.
        size_px: image size in pixels; default: 32, at which they were pre-trained.
        init_seed: seed of the random initialisation.
    """
    from vitbench.backbones.models.miniature import build

    return build(checkpoint, pretrained, size_px, init_seed)
