"""How a fine-tuning run is paced and what is done to its pictures: one Recipe, every field of it in the record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum and no weight decay; `cosine` or `staircase` decay after linear warm-up (protocols.md 3.1, 4.1).

    `decay_steps` are where a staircase falls to a tenth: from the step after each on, as in BiT's released code. `clip_norm`
    bounds the global norm of the gradients; `averaging` is the factor of a Polyak average, whose weights are then the result.
    `size_px` of None keeps the backbone's size; `crop: random` cuts squares from pictures resized to `resize_px`. With
    `train_only` validation data choose and are not learned from afterwards.

    Raises:
        ValueError: its fields do not go together.
    """

    steps: int
    warmup_steps: int
    base_lr: float
    batch_size: int = 512
    momentum: float = 0.9
    clip_norm: float | None = 1.0
    decay: Literal["cosine", "staircase"] = "cosine"
    decay_steps: tuple[int, ...] = ()
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    averaging: float | None = None
    size_px: int | None = None
    resize_px: int | None = None
    crop: Literal["none", "random", "inception"] = "none"
    flip: bool = False
    mixup_alpha: float = 0.0
    train_only: bool = False

    def __post_init__(self) -> None:
        """Fields that do not go together."""
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} are more than steps {self.steps}")
        if self.decay == "staircase" and not self.decay_steps:
            raise ValueError("decay: staircase needs decay_steps")
        if self.crop == "random" and self.resize_px is None:
            raise ValueError("crop: random needs resize_px, the size that it cuts from")
        if self.crop == "random" and (self.size_px or 0) > (self.resize_px or 0):
            raise ValueError(
                f"crop: random cannot cut size_px {self.size_px} from resize_px {self.resize_px}"
            )

    def learning_rate(self, step: int) -> float:
        """Rate at a step, counted from 0; with warm-up the first is 0 (VJ vit_jax/utils.py:57-96)."""
        warm = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "staircase":
            # During warm-up nothing decays (BT bit_hyperrule.py:54-62).
            falls = sum(step > boundary for boundary in self.decay_steps) if warm == 1.0 else 0
            return self.base_lr * warm * 0.1**falls
        decaying = max(self.steps - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / decaying, 0.0), 1.0)
        return self.base_lr * 0.5 * (1.0 + math.cos(math.pi * progress)) * warm

    def fields(self) -> dict[str, Any]:
        """All of it, for the record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
