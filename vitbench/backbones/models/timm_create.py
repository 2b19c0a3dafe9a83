"""timm models without classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import timm
from timm.models import is_model
from torch import nn

from vitbench.api import Provenance
from vitbench.backbones.models.checkpoint_file import Checkpoint
from vitbench.backbones.models.unfilled import on_meta
from vitbench.core.errors import UsageError

_FAMILIES = (
    ("vit_base_r50", "Hybrid"), ("vit_large_r50", "Hybrid"), ("vit_small_r26", "Hybrid"), ("vit_tiny_r_", "Hybrid"),
    ("vit_", "ViT"), ("deit", "DeiT"), ("swin", "Swin"), ("tf_efficientnet", "EfficientNet"),
    ("efficientnet", "EfficientNet"), ("convnext", "ConvNeXt"), ("mixer", "Mixer"),
)  # fmt: skip
_NORM_IN_HEAD = ("efficientvit_msra", "shvit")  # modules whose classifier is a BatchNorm and a linear layer


@dataclass(frozen=True)
class TimmModel:
    """A timm model without classifier, the name and the options that it was built with, and where its weights come from.

    `read` reads the file of the weights again; `knows_classes` says that its classifier's classes are those of timm's
    configuration.
    """

    model: nn.Module
    name: str
    provenance: Provenance
    extra: dict[str, Any] = field(default_factory=dict)
    read: Callable[[], Checkpoint] | None = None
    knows_classes: bool = False


def create(name: str, **options: Any) -> nn.Module:
    """Build a timm model without classifier.

    Where timm would drop a trained norm together with the classifier, the norm stays: the model's output is then its features.

    Raises:
        UsageError: the architecture does not take one of the options.
    """
    keeps_norm = module_of(name) in _NORM_IN_HEAD
    classes: dict[str, Any] = {} if keeps_norm else {"num_classes": 0}
    try:
        with warnings.catch_warnings():
            # timm warns about renamed models and activations: the record and `vitbench list` say it instead
            warnings.simplefilter("ignore")
            model: Any = timm.create_model(name, **classes, **options)
    except TypeError as error:
        raise UsageError(
            f"timm:{name} does not accept {', '.join(sorted(options))}: {one_line(error)}"
        ) from error
    if keeps_norm:
        classifier = model.get_classifier()
        model.set_submodule(next(name for name, m in model.named_modules() if m is classifier), nn.Identity())
    return cast("nn.Module", model)


def shape_of(name: str, **options: Any) -> nn.Module:
    """The same on the meta device, for its shapes; as `create` gives it where it computes with what it has made.

    Raises:
        UsageError: the architecture does not take one of the options.
    """
    try:
        with on_meta():
            return create(name, pretrained=False, **options)
    except RuntimeError:
        return create(name, pretrained=False, **options)


def create_unfilled(name: str, **options: Any) -> nn.Module:
    """The same for weights that are loaded at once: on the meta device if its state is all it has, as `create` otherwise.

    Initial values that nobody uses take 1.2 s for ViT-B/16, and 4 s for ViT-L/16.

    Raises:
        UsageError: the architecture does not take one of the options.
    """
    model = shape_of(name, **options)
    state = model.state_dict()
    others = [
        tensor for key, tensor in (*model.named_parameters(), *model.named_buffers()) if key not in state
    ]
    return create(name, pretrained=False, **options) if any(each.is_meta for each in others) else model


def accepts_size(name: str, size_px: int, extra: dict[str, Any]) -> bool:
    """Whether an architecture can be built for an image size."""
    try:
        shape_of(name, img_size=size_px, **extra)
    except UsageError:
        return False
    return True


def puts_norm_in_head(name: str) -> bool:
    """Whether the output of a model that `create` has built is its features, for its pre-logits lack a trained norm."""
    return module_of(name) in _NORM_IN_HEAD


def module_of(name: str) -> str:
    """Timm's module of an architecture; '' for a name on a hub."""
    architecture = name.partition(".")[0]
    return (
        timm.models.model_entrypoint(architecture).__module__.rpartition(".")[2]
        if is_model(architecture)
        else ""
    )


def family_of(name: str) -> str:
    """The family of an architecture, as the board shows it."""
    if "resnetv2" in name and "_bit" in name:
        return "BiT"
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), name.split("_")[0])


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())[:300]
