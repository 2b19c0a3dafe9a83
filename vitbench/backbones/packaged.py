"""Registers `packaged:NAME`: trained weights that a Python package holds, so that pip brings them (extra `demo`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn

NAMES = ("effnet-lite0",)
SizePx = Annotated[int, Field(ge=1, le=4096)]


@register_backbone(
    "packaged",
    libraries=("timm", "torch"),
    argument="name",
    unknown_argument=lambda name: None if name in NAMES else list(NAMES),
    family="EfficientNet",
    pretrain_data="ImageNet-1k",
)
def packaged(
    name: str, *, pretrained: bool = True, size_px: SizePx | None = None, init_seed: int = 0
) -> nn.Module:
    """Trained weights from a Python package: EfficientNet-Lite0; needs the extra `demo`.

    Args:
        name: effnet-lite0.
        pretrained: load the weights; false: randomly initialised, and marked as untrained in reports.
        size_px: image size in pixels; default: 224, at which they were trained.
        init_seed: seed of the random initialisation.
    """
    from vitbench.backbones.models.effnet_lite0 import build

    return build(name, pretrained, size_px, init_seed)
