"""The miniature architectures, of timm's own classes and known to timm by name: about 0.2 M parameters each, for 32 px.

`mini_vit` is a ViT, `mini_bit` a ResNet-v2 with GroupNorm and weight standardisation as BiT's, and `mini_hybrid` a ViT on the
output of such a ResNet's stem. No max-pooling follows a stem, as is usual for images of 32 px. The script that pre-trains them
(reports/miniatures/pretrain.py) reads this file, too, so it imports timm and torch only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from timm.layers.hybrid_embed import HybridEmbed
from timm.layers.norm_act import GroupNormAct
from timm.layers.std_conv import StdConv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIZE_PX = 32
MEAN = STD = (0.5, 0.5, 0.5)
ARCHITECTURES = ("mini_vit", "mini_bit", "mini_hybrid")
_NORM = partial(GroupNormAct, num_groups=4)
_TRANSFORMER = {"img_size": SIZE_PX, "embed_dim": 128, "num_heads": 4, "mlp_ratio": 1}


def _config(classifier: str, first_conv: str) -> dict[str, Any]:
    return {
        "input_size": (3, SIZE_PX, SIZE_PX), "num_classes": 1024, "mean": MEAN, "std": STD, "interpolation": "bilinear",
        "crop_pct": 1.0, "classifier": classifier, "first_conv": first_conv, "license": "apache-2.0",
    }  # fmt: skip


default_cfgs = generate_default_cfgs({
    "mini_vit.untrained": _config("head", "patch_embed.proj"),
    "mini_bit.untrained": _config("head.fc", "stem.conv1"),
    "mini_hybrid.untrained": _config("head", "patch_embed.backbone.conv1"),
})  # fmt: skip


@register_model
def mini_vit(pretrained: bool = False, **options: Any) -> nn.Module:
    """A ViT with 4 px patches: width 128, two blocks."""
    arguments = {**_TRANSFORMER, "patch_size": 4, "depth": 2, "global_pool": "avg", "class_token": False}
    return build_model_with_cfg(VisionTransformer, "mini_vit", pretrained, **{**arguments, **options})


@register_model
def mini_bit(pretrained: bool = False, **options: Any) -> nn.Module:
    """A pre-activation ResNet of bottlenecks with GroupNorm and weight standardisation: 16, 8 and 4 px, 224 features."""
    arguments: dict[str, Any] = {
        "layers": (1, 2, 2), "channels": (64, 120, 224), "stem_chs": 32, "stem_type": "deep",
        "conv_layer": partial(StdConv2d, eps=1e-8), "norm_layer": _NORM,
    }  # fmt: skip
    model = build_model_with_cfg(ResNetV2, "mini_bit", pretrained, **{**arguments, **options})
    model.stem.pool = nn.Identity()
    return model


@register_model
def mini_hybrid(pretrained: bool = False, **options: Any) -> nn.Module:
    """The same transformer on the output of a stem of three weight-standardised convolutions, in patches of 2."""
    stem = create_resnetv2_stem(
        3, 16, "deep", preact=False, conv_layer=partial(StdConv2d, eps=1e-8), norm_layer=_NORM
    )
    stem.pool = nn.Identity()
    arguments = {**_TRANSFORMER, "patch_size": 2, "depth": 2, "global_pool": "avg", "class_token": False}
    embed = partial(HybridEmbed, backbone=stem)
    return build_model_with_cfg(
        VisionTransformer, "mini_hybrid", pretrained, embed_layer=embed, **{**arguments, **options}
    )


def initialise(model: nn.Module, seed: int) -> None:
    """Draw all weights anew, uniformly, from a stream that is the same in every version of torch and timm.

    Matrices get Glorot's variance, 2 / (inputs + outputs), which weight-standardised convolutions do not depend on; position
    embeddings a standard deviation of 0.02 (arXiv 2010.11929); gains are 1, biases 0.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                weight.fill_(float(name.endswith("weight")))  # a norm's gain is 1; all biases are 0
                continue
            fans = (weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()
            reach = 0.02 * 3**0.5 if name == "pos_embed" else (6 / fans) ** 0.5
            drawn = reach * (2 * stream.random(tuple(weight.shape)) - 1)
            weight.copy_(torch.from_numpy(drawn.astype(np.float32)))
