"""Raw pixels as features: the baseline that every backbone must beat."""

from __future__ import annotations

from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance


class RawPixels(nn.Module):
    """Flattens images of a small size: (B, 3, S, S) -> (B, 3 S^2)."""

    provenance = Provenance("baseline", "none", "none", "raw pixels", pretrain_flops=0)

    def __init__(self, size_px: int) -> None:
        super().__init__()
        self.input = InputSpec(size_px, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.feature_dim = 3 * size_px * size_px

    def features(self, images: Tensor) -> Tensor:
        """The flattened pixels (B, 3 S^2) of images (B, 3, S, S)."""
        return images.flatten(1)

    def at_resolution(self, size_px: int) -> RawPixels:
        """Raw pixels at another image size."""
        return RawPixels(size_px)
