"""Registers `timm:NAME`, any timm model: ViT, hybrids, BiT, EfficientNet, DINOv2 and all others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitbench.backbones.timm_names import not_timm
from vitbench.core.errors import UsageError
from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn

Triple = tuple[float, float, float]
SizePx = Annotated[int, Field(ge=1, le=4096)]


@register_backbone(
    "timm", libraries=("timm", "torch"), version=3, argument="model", unknown_argument=not_timm, family="timm"
)
def timm_backbone(  # noqa: PLR0913  its parameters are the options of a suite
    model: str,
    *,
    pretrained: bool = True,
    checkpoint: Path | None = None,
    size_px: SizePx | None = None,
    patch_px: SizePx | None = None,
    init_seed: int = 0,
    weights: Literal["ema", "raw"] | None = None,
    position_resize: Literal["own", "aligned", "timm", "dinov2"] = "own",
    activation: Literal["own", "timm"] = "own",
    pooling: Literal["own", "class_token", "patch_mean", "class_token+patch_mean"] = "own",
    last_layers: Annotated[int, Field(ge=1, le=64)] = 1,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> nn.Module:
    """Any timm model; features are its pre-logits, with the image size, mean and std of its weights.

    Args:
        model: timm's model name, with or without the tag of its weights.
        pretrained: load the named weights; false: randomly initialised, and marked as untrained in reports.
        checkpoint: a .safetensors or .pth file to load instead, in any layout that timm reads (tensors only, no code).
        size_px: image size in pixels; default: that of the weights.
        patch_px: patch size in pixels of a randomly initialised ViT.
        init_seed: seed of the random initialisation, if no weights are loaded.
        weights: of a checkpoint with both, the averaged weights (`ema`) or the others (`raw`); default: averaged, as timm.
        position_resize: how position embeddings are resized: `own` as by the authors of the weights, `aligned` as in the ViT
            paper, `timm` as in timm, `dinov2` as in DINOv2.
        activation: of timm's own weights: `own` is the one they were trained with (tanh GELU in Google's ViTs, QuickGELU in
            OpenAI's), `timm` is that of timm's network of this name.
        pooling: `own` is the model's; for a transformer also its class token, the mean patch token, or both concatenated.
        last_layers: concatenate the class tokens of this many last blocks (DINOv2's linear probe uses 1 and 4).
        mean: mean of red, green and blue, subtracted from pixels / 255; default: that of timm's configuration.
        std: standard deviation of red, green and blue, by which the difference is divided; default: timm's.
    """
    from vitbench.backbones.models.hub_access import ask_early

    if pretrained and checkpoint is None:
        ask_early()
    from vitbench.backbones.models import timm_file, timm_weights
    from vitbench.backbones.models.timm import TimmBackbone

    if weights is not None and checkpoint is None:
        raise UsageError("`weights` chooses among the weights of a `checkpoint`: give one")
    if patch_px is not None and (checkpoint is not None or pretrained):
        raise UsageError("patch_px changes the architecture: set `pretrained: false` and no checkpoint")
    extra = {"patch_size": patch_px} if patch_px is not None else {}
    if checkpoint is not None:
        backbone = TimmBackbone(timm_file.from_file(model, checkpoint, extra, weights))
    elif pretrained:
        backbone = TimmBackbone(timm_weights.from_hub(model, extra, activation))
    else:
        backbone = TimmBackbone(timm_weights.initialised(model, size_px, extra, init_seed))
    if position_resize != "own":
        backbone.position_resize = position_resize
    backbone.pool(pooling, last_layers)
    if size_px is not None:
        backbone = backbone.at_resolution(size_px)
    return backbone.normalising(mean, std)
