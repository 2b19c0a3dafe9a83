"""Pooling of MAE's and BEiT's fine-tuning: the mean of the patches behind the last block, through a new LayerNorm.

Their code drops the norm that the network was pre-trained with (MAE:models_vit.py, BEIT:beit/modeling_finetune.py, `fc_norm`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

EPS = 1e-6  # of the LayerNorm, in both
PARTS = ("blocks", "norm", "fc_norm", "global_pool", "embed_dim")  # of timm's vision transformers


def pool_patches(backbone: nn.Module) -> str:
    """Have a vision transformer of timm's pool so; returns what was done, in words."""
    owner: Any = next(
        (module for module in backbone.modules() if all(hasattr(module, part) for part in PARTS)), None
    )
    if owner is None or getattr(backbone, "pooling", "own") != "own":
        return "features are pooled as the backbone does: only timm's vision transformers take a new norm behind the mean"
    device = next(owner.parameters()).device
    owner.global_pool, owner.norm = "avg", nn.Identity()
    owner.fc_norm = nn.LayerNorm(owner.embed_dim, eps=EPS, device=device)
    return "features: the mean of the patches through a new LayerNorm"
