"""A backbone: a torch module with `input`, `feature_dim` and `features`."""

import torch
from torch import Tensor, nn

from vitbench import register_backbone
from vitbench.api import InputSpec, Provenance


@register_backbone("example/random_patches")
class RandomPatches(nn.Module):
    """Random projections of patches, their absolute values averaged over the image."""

    provenance = Provenance(family="example", weights="untrained", pretrain_data="none")

    def __init__(self, width: int = 48, size_px: int = 16, init_seed: int = 0) -> None:
        super().__init__()
        self.input = InputSpec(size_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.feature_dim = 4 * width
        generator = torch.Generator().manual_seed(init_seed)
        self.filters = nn.Parameter(torch.randn(width, 3, 4, 4, generator=generator))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 4 width)."""
        responses = nn.functional.conv2d(images, self.filters, stride=2).abs()
        return nn.functional.adaptive_avg_pool2d(responses, 2).flatten(1)

    def at_resolution(self, size_px: int) -> "RandomPatches":
        """The same filters for another side."""
        other = RandomPatches(len(self.filters), size_px)
        other.load_state_dict(self.state_dict())
        return other
