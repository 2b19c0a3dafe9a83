"""Registers `torchvision:NAME`, torchvision's classification models, with the image size, mean and std of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn


@register_backbone(
    "torchvision", libraries=("torchvision", "torch"), version=2, argument="model", family="torchvision"
)
def torchvision_backbone(
    model: str,
    *,
    weights: str = "DEFAULT",
    pretrained: bool = True,
    checkpoint: Path | None = None,
    size_px: Annotated[int, Field(ge=1, le=4096)] | None = None,
    init_seed: int = 0,
) -> nn.Module:
    """A torchvision classification model; features are the input of its last linear layer.

    Args:
        model: torchvision's model name, such as resnet50 or swin_t.
        weights: name of the pre-trained weights, such as IMAGENET1K_V2; of a checkpoint's, `ema` (default) or `raw`.
        pretrained: load these weights; false: randomly initialised, and marked as untrained in reports.
        checkpoint: a .safetensors or .pth file to load instead (tensors only, never pickled code).
        size_px: image size in pixels; default: that of the weights.
        init_seed: seed of the random initialisation, if no weights are loaded.
    """
    from vitbench.backbones.models.torchvision import TorchvisionBackbone

    return TorchvisionBackbone.build(model, weights if pretrained else None, checkpoint, size_px, init_seed)
