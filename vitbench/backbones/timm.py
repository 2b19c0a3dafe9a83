"""Any timm model by name: ViT, hybrids, BiT, EfficientNet, DINOv2 and everything else timm has."""

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
Side = Annotated[int, Field(ge=1, le=4096)]


@register_backbone("timm", argument="model", unknown_argument=not_timm, family="timm")
def timm_backbone(  # noqa: PLR0913  its parameters are the options of a suite
    model: str,
    *,
    pretrained: bool = True,
    checkpoint: Path | None = None,
    size_px: Side | None = None,
    patch_px: Side | None = None,
    init_seed: int = 0,
    position_resize: Literal["aligned", "timm"] = "aligned",
    pooling: Literal["own", "class_token", "patch_mean", "class_token+patch_mean"] = "own",
    last_layers: Annotated[int, Field(ge=1, le=64)] = 1,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> nn.Module:
    """Any model of timm; features are its pre-logits, input size and mean/std its checkpoint's.

    Args:
        model: timm's name, with or without the tag of its weights.
        pretrained: load the named weights; false gives seeded initial weights, and says so on every page.
        checkpoint: a .safetensors or .pth file to load instead (weights only, never pickled code).
        size_px: build it for images of this side.
        patch_px: patch side of a ViT that is built with seeded weights.
        init_seed: seed of the initial weights when nothing is loaded.
        position_resize: how position embeddings get to another side: `aligned` as the ViT paper's, or `timm` for timm's own.
        pooling: `own` is the model's; of a transformer also its class token, the mean of its patches, or both side by side.
        last_layers: take the class tokens of this many last blocks, side by side (DINOv2's linear probe uses 1 and 4).
        mean: what is taken from pixels x / 255, red, green and blue, in place of what timm's configuration of the model says.
        std: what they are divided by then.
    """
    from vitbench.backbones.models.timm import TimmBackbone

    if patch_px is not None and (checkpoint is not None or pretrained):
        raise UsageError("patch_px changes the architecture: it needs `pretrained: false`")
    extra = {"patch_size": patch_px} if patch_px is not None else {}
    if checkpoint is not None:
        backbone = TimmBackbone.from_file(model, checkpoint, extra)
    elif pretrained:
        backbone = TimmBackbone.pretrained(model, extra)
    else:
        backbone = TimmBackbone.untrained(model, size_px, extra, init_seed)
    backbone.position_resize = position_resize
    backbone.pool(pooling, last_layers)
    if size_px is not None:
        backbone = backbone.at_resolution(size_px)
    return backbone.normalising(mean, std)
