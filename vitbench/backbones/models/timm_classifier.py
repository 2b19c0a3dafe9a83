"""The classifier of timm's weights, which adapters leave out: read again from the file that the weights were loaded from."""

from __future__ import annotations

from typing import Any

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor

from vitbench.backbones.models.checkpoint_file import Checkpoint, Weights
from vitbench.backbones.models.linear_head import classifier_of, no_classifier
from vitbench.backbones.models.timm_create import TimmModel, shape_of
from vitbench.backbones.models.timm_file import target_of
from vitbench.backbones.models.weights import best_match
from vitbench.core.errors import UsageError
from vitbench.core.own_classifier import OwnClassifier


def own_classifier(built: TimmModel, feature_dim: int, config: dict[str, Any]) -> OwnClassifier:
    """The linear layer that a model's weights have for its features; its classes are known for timm's own weights.

    Raises:
        UsageError: the weights have no classifier, or another than one linear layer on these features.
    """
    if built.read is None:
        raise _refused(built, "initial weights have no trained classifier")
    checkpoint = built.read()
    weight, bias = _arrays(built, checkpoint)
    if weight.shape[1] != feature_dim:
        raise _refused(
            built, f"the classifier takes {weight.shape[1]} features, and this backbone gives {feature_dim}"
        )
    return classifier_of(weight, bias, _names(built, config, len(weight)), checkpoint.path.name)


def _arrays(built: TimmModel, checkpoint: Checkpoint) -> tuple[Tensor, Tensor | None]:
    """The classifier's matrix (C, D), and its bias if it has one."""
    target = target_of(shape_of(built.name, **built.extra), built.name)
    if len(target.heads) != 1:
        raise _refused(built, f"it has {len(target.heads)} classifiers, whose scores timm averages")
    (head,) = target.heads
    weights: Weights = best_match(target, checkpoint).weights
    weight = weights.get(f"{head}.weight")
    if weight is None:
        raise _refused(built, f"{checkpoint.path.name} has no {head}.weight: its weights have no classifier")
    if weight.ndim == 4 and weight.shape[2:] == (1, 1):  # a convolution of one pixel
        weight = weight.flatten(1)
    if weight.ndim != 2:
        raise _refused(
            built, f"its classifier has the shape {tuple(weight.shape)}, not that of a linear layer"
        )
    return weight.float(), weights.get(f"{head}.bias")


def _names(built: TimmModel, config: dict[str, Any], classes: int) -> tuple[str, ...] | None:
    """WordNet ids of the classes, which timm ships for its own weights; those of a file of one's own are not known."""
    subset = infer_imagenet_subset(config) if built.knows_classes else None
    names = ImageNetInfo(subset).label_names() if subset else []
    return tuple(names) if len(names) == classes else None


def _refused(built: TimmModel, why: str) -> UsageError:
    return no_classifier(f"timm:{built.name}", why)
