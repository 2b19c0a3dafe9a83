"""The classifier that weights were trained with, and what its classes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OwnClassifier:
    """A module from features (N, D) to class scores (N, C), with the WordNet ids or names of its classes; None: not known."""

    module: nn.Module
    classes: int
    names: tuple[str, ...] | None = None
    source: str = ""
