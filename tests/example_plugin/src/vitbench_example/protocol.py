"""A protocol: what it learns from comes in, a frozen head goes out. Test is not in sight."""

from dataclasses import dataclass

import torch

from vitbench import register_protocol
from vitbench.api import Adaptation, Adapted, Protocol


@register_protocol("example/nearest_mean")
@dataclass(frozen=True)
class NearestMean(Protocol):
    """The class whose mean feature is nearest."""

    def depends_on_seed(self, budget: str) -> bool:
        """Only through the draw of examples."""
        return budget.endswith("-shot")

    def adapt(self, data: Adaptation) -> Adapted:
        """Keep the mean of every class."""
        features = data.features(data.train)
        labels = torch.as_tensor(data.train.labels)
        means = torch.stack([features[labels == c].mean(0) for c in range(data.num_classes)])
        return Adapted(data.backbone, lambda x: -torch.cdist(x, means), trained_backbone=False)
