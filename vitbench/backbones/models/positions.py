"""Position embeddings for another number of patches."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from vitbench.core.errors import UnfilledError

# `aligned` is the ViT paper's; `timm` is what timm does to its own checkpoints: bicubic, antialiased (facts/protocols.md 7.1).
PositionResize = Literal["aligned", "timm"]


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, ...], wanted: tuple[int, ...], how: PositionResize = "aligned"
) -> Tensor:
    """Position embeddings (1, P + h x w, D) for another grid; the P prefix tokens (class token) stay untouched.

    Bilinear with aligned corners, as the ViT paper's code does (facts/protocols.md 3.3); timm's own way differs by up to the
    grid's standard deviation (7.1).
    """
    prefix = embedding.shape[1] - grid[0] * grid[1]
    width = embedding.shape[2]
    plane = embedding[:, prefix:].reshape(1, *grid, width).permute(0, 3, 1, 2).float()
    if how == "aligned":
        resized = F.interpolate(plane, wanted, mode="bilinear", align_corners=True)
    else:
        resized = F.interpolate(plane, wanted, mode="bicubic", antialias=True, align_corners=False)
    flat = resized.permute(0, 2, 3, 1).reshape(1, -1, width).to(embedding.dtype)
    return torch.cat([embedding[:, :prefix], flat], dim=1)


def check_patches(model: nn.Module, size_px: int, name: str) -> None:
    """See that a ViT's patches fill an image: timm's would leave the last rows and columns out without a word.

    Raises:
        UnfilledError: they do not.
    """
    embed = getattr(model, "patch_embed", None)
    if type(embed) is not PatchEmbed or embed.dynamic_img_pad:
        return
    side = int(embed.patch_size[0])
    if rest := size_px % side:
        below = size_px - rest
        fitting = " or ".join(f"{size} px" for size in (below, below + side) if size)
        what = (
            f"{name} cuts images into patches of {side} px, which do not fill {size_px} px: {fitting} will do"
        )
        raise UnfilledError(what, below + side)
