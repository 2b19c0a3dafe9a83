"""The linear-probe protocol: a linear layer on a frozen backbone, trained by SGD or LARS on augmented images.

DINOv2's linear evaluation trains 52 heads at once and keeps the best; MAE's linear probing one head behind a BatchNorm
(docs/protocols.md#linear-probe). `ridge_probe` and `logistic_probe` solve the same layer exactly, without augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitbench.core.registry import register_protocol
from vitbench.protocols.heads.protocol import HeadProtocol
from vitbench.protocols.heads.recipe import Kind


@register_protocol(
    "linear_probe", version=1, source="DINOv2, DN:dinov2/eval/linear.py; MAE, MAE:main_linprobe.py"
)
@dataclass(frozen=True)
class LinearProbe(HeadProtocol):
    """A linear layer on the frozen backbone, trained on augmented images by DINOv2's recipe or MAE's.

    `recipe` names a recipe of vitbench/protocols/heads/recipes.yaml; other options override its fields. Several values of
    `base_lr`, `weight_decay` and `inputs` make a grid, which is trained at once over one forward pass per step; the head with
    the best validation accuracy is kept, ties to the first. `inputs` are `class`, `class-4` (the last four blocks), either with
    `+mean` (the mean patch token), `mean`, or `features`, the backbone's own. `batch_norm` is the number of images that
    BatchNorm's statistics are computed over, 0 for none.
    """

    kind: ClassVar[Kind] = "linear"
    reads: ClassVar[tuple[str, ...]] = ("class", "mean", "features")

    recipe: Literal["dinov2", "mae"] = "dinov2"
