"""Raw pixels as features: the floor that every backbone must beat."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  the field's name for it
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance


class RawPixels(nn.Module):
    """Images shrunk to a small square and flattened: (B, 3, S, S) -> (B, 3 size^2)."""

    provenance = Provenance("baseline", "none", "none", "raw pixels")

    def __init__(self, size_px: int) -> None:
        super().__init__()
        self.input = InputSpec(size_px, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.size_px = size_px
        self.feature_dim = 3 * size_px * size_px

    def features(self, images: Tensor) -> Tensor:
        """The flattened pixels (B, 3 size^2)."""
        return F.adaptive_avg_pool2d(images, self.size_px).flatten(1)

    def at_resolution(self, size_px: int) -> RawPixels:
        """Pixels at another side."""
        return RawPixels(size_px)
