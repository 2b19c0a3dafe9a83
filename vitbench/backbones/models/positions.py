"""Resize position embeddings to another patch grid, and check image sizes against patch sizes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from vitbench.core.errors import UnfilledError

# `aligned`: bilinear, as in the ViT paper; `timm`: bicubic, antialiased, also for DINOv2 with registers; `dinov2`: bicubic, by
# a factor that is a little too large (docs/protocols.md#position-embeddings).
PositionResize = Literal["aligned", "timm", "dinov2"]
DINOV2_OFFSET = 0.1  # patches, added to the wanted grid (DN:dinov2/models/vision_transformer.py, interpolate_pos_encoding)


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, ...], wanted: tuple[int, ...], how: PositionResize = "aligned"
) -> Tensor:
    """Resize position embeddings (1, P + h x w, D) to another grid; those of the P prefix tokens are unchanged.

    `aligned` is bilinear with aligned corners, as in the ViT paper's code (docs/protocols.md#position-embeddings); `timm`
    differs from it by up to one standard deviation of the grid.
    """
    prefix = embedding.shape[1] - grid[0] * grid[1]
    width = embedding.shape[2]
    plane = embedding[:, prefix:].reshape(1, *grid, width).permute(0, 3, 1, 2).float()
    if how == "aligned":
        resized = F.interpolate(plane, wanted, mode="bilinear", align_corners=True)
    elif how == "timm":
        resized = F.interpolate(plane, wanted, mode="bicubic", antialias=True, align_corners=False)
    else:
        factors = [(new + DINOV2_OFFSET) / old for new, old in zip(wanted, grid, strict=True)]
        resized = F.interpolate(plane, scale_factor=factors, mode="bicubic")
    flat = resized.permute(0, 2, 3, 1).reshape(1, -1, width).to(embedding.dtype)
    return torch.cat([embedding[:, :prefix], flat], dim=1)


def check_patches(model: nn.Module, size_px: int, name: str) -> None:
    """Check that an image size is a multiple of a ViT's patch size; timm would silently ignore the last rows and columns.

    Raises:
        UnfilledError: it is not a multiple.
    """
    embed = getattr(model, "patch_embed", None)
    if type(embed) is not PatchEmbed or embed.dynamic_img_pad:
        return
    patch_px = int(embed.patch_size[0])
    if rest := size_px % patch_px:
        below = size_px - rest
        fitting = " or ".join(f"{size} px" for size in (below, below + patch_px) if size)
        what = f"{name} has patches of {patch_px} px, and {size_px} px is not a multiple of {patch_px}; use {fitting}"
        raise UnfilledError(what, below + patch_px)
