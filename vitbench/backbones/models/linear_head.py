"""The linear layer that an adapter has taken off a network, as the classifier that came with its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn
from torch.nn.utils import skip_init

from vitbench.core.errors import Problem, UsageError
from vitbench.core.own_classifier import OwnClassifier

IMAGENET = "imagenet-1k"


def classifier_of(
    weight: Tensor, bias: Tensor | None, names: Sequence[str] | None, source: str
) -> OwnClassifier:
    """A classifier with this matrix (C, D) and bias (C,), on the CPU, apart from the network that it was taken off."""
    module = skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        module.weight.copy_(weight)
        module.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return OwnClassifier(module, len(weight), tuple(names) if names is not None else None, source)


def no_classifier(source: str, why: str) -> UsageError:
    """Why a backbone's weights cannot be scored by a classifier of their own, and what can be done instead."""
    step = "use a probe (ridge_probe, logistic_probe, knn), or weights with a classifier"
    return UsageError(Problem(f"own_head: {source}: {why}", next_step=step))


def imagenet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes in their order, which timm ships."""
    return tuple(ImageNetInfo(IMAGENET).label_names())


def ids_of_descriptions(names: Sequence[str]) -> tuple[str, ...] | None:
    """The WordNet ids of classes that are described in ImageNet's words, such as `tench, Tinca tinca`; None for others.

    Two classes of ImageNet go by one first word (crane, maillot), so whole descriptions are compared, in ImageNet's order.
    """
    known = ImageNetInfo(IMAGENET).label_descriptions()
    plain = [_plain(name) for name in names]
    return imagenet_ids() if plain == [_plain(name) for name in known] else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
