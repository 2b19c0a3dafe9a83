"""Baselines without learned weights, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from torch import nn


@register_backbone("raw_pixels", family="baseline", pretrain_data="none")
def raw_pixels(size_px: Annotated[int, Field(ge=1, le=256)] = 16) -> nn.Module:
    """Raw pixels at a small image size: the baseline of every leaderboard."""
    from vitbench.backbones.models.pixels import RawPixels

    return RawPixels(size_px)
