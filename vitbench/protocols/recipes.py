"""How a fine-tuning run is paced: steps, batch, and the learning rate at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, cosine decay with linear warm-up, clipped gradients, no weight decay (ViT, Table 4)."""

    steps: int
    warmup_steps: int
    base_lr: float
    batch_size: int = 512
    momentum: float = 0.9
    clip_norm: float = 1.0

    def learning_rate(self, step: int) -> float:
        """Rate at a step, counted from 0; with warm-up the first is 0 (VJ vit_jax/utils.py:57-96)."""
        decaying = max(self.steps - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / decaying, 0.0), 1.0)
        rate = self.base_lr * 0.5 * (1.0 + math.cos(math.pi * progress))
        return rate * min(1.0, step / self.warmup_steps) if self.warmup_steps else rate
