"""The attentive-probe protocol: a learned query attends to a frozen backbone's patch tokens, and a linear layer follows.

CAPI's evaluation (CAPI:eval_classification.py; docs/protocols.md#attentive-probe) trains 30 heads at once and chooses on
held-out training images. AIM's and V-JEPA's heads differ: see there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitbench.core.registry import register_protocol
from vitbench.protocols.heads.protocol import HeadProtocol
from vitbench.protocols.heads.recipe import Kind


@register_protocol("attentive_probe", version=1, source="CAPI, CAPI:eval_classification.py")
@dataclass(frozen=True)
class AttentiveProbe(HeadProtocol):
    """Attention pooling by one learned query, and a linear layer, on the frozen backbone's tokens (CAPI's evaluation).

    Options override fields of the recipe, in vitbench/protocols/heads/recipes.yaml. Several values of `base_lr` and
    `weight_decay` make a grid, which is trained at once; the head with the best validation accuracy is kept, ties to the first.
    `inputs` are `patches`, or `tokens` for class and register tokens, too.
    """

    kind: ClassVar[Kind] = "attentive"
    reads: ClassVar[tuple[str, ...]] = ("patches", "tokens")

    recipe: Literal["capi"] = "capi"
