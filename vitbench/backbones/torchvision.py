"""torchvision's classification models, `torchvision:NAME`, with torchvision's own preprocessing facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn


@register_backbone("torchvision", argument="model", family="torchvision")
def torchvision_backbone(
    model: str,
    *,
    weights: str = "DEFAULT",
    pretrained: bool = True,
    checkpoint: Path | None = None,
    size_px: Annotated[int, Field(ge=1, le=4096)] | None = None,
    init_seed: int = 0,
) -> nn.Module:
    """A classification model of torchvision; features are what its last linear layer is put on.

    Args:
        model: torchvision's name, such as resnet50 or swin_t.
        weights: which of its weights, such as IMAGENET1K_V2.
        pretrained: load them; false gives seeded initial weights, and says so on every page.
        checkpoint: a .safetensors or .pth file to load instead (weights only, never pickled code).
        size_px: side of the images; that of the weights if not given.
        init_seed: seed of the initial weights when nothing is loaded.
    """
    from vitbench.backbones.models.torchvision import TorchvisionBackbone

    return TorchvisionBackbone.build(model, weights if pretrained else None, checkpoint, size_px, init_seed)
