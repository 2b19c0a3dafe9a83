"""Wrapper of torchvision classification models."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torchvision
from torch import Tensor, nn

from vitbench.api import EvaluationTransform, InputSpec, Provenance
from vitbench.backbones.models.checkpoint_file import Checkpoint, Weights, read_checkpoint
from vitbench.backbones.models.linear_head import classifier_of, imagenet_ids, no_classifier
from vitbench.backbones.models.unfilled import loaded
from vitbench.backbones.models.weights import Averaging, Target, best_match, load_into, shortened
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest, unknown
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.record import LoadReport
from vitbench.core.seeding import seeded

NATIVE_PX = 224


class TorchvisionBackbone(nn.Module):
    """A torchvision classification model without its last linear layer."""

    def __init__(
        self, model: nn.Module, spec: InputSpec, evaluation: EvaluationTransform, provenance: Provenance
    ) -> None:
        super().__init__()
        self.evaluation = evaluation
        self._head_name, head = _remove_head(model)
        self._head: tuple[nn.Linear, ...] = (head,)  # in a tuple: not among the backbone's weights
        self.feature_dim = head.in_features
        self.model = model
        self.input = spec
        self.provenance = provenance

    def features(self, images: Tensor) -> Tensor:
        """The input (B, D) of the removed linear layer, for images (B, 3, S, S)."""
        return cast("Tensor", self.model(images))

    def classifier(self) -> OwnClassifier:
        """The last linear layer, if its weights were loaded; those of torchvision's own weights have ImageNet's classes.

        Raises:
            UsageError: there are no trained weights of it.
        """
        source = self.provenance.source
        if not self._head or self.provenance.weights == "untrained":
            raise no_classifier(source, "its weights have no trained classifier")
        (head,) = self._head
        names = imagenet_ids() if self.provenance.trained_on == ("imagenet2012",) else None
        return classifier_of(head.weight, head.bias, names, source)

    def _take_head(self, weights: Weights) -> None:
        """Keep a checkpoint's own last layer, if it has one of this width."""
        weight, bias = (weights.get(f"{self._head_name}.{part}") for part in ("weight", "bias"))
        self._head = ()
        if weight is not None and weight.ndim == 2 and weight.shape[1] == self.feature_dim:
            own = classifier_of(weight.float(), bias, None, "").module
            self._head = (own,) if isinstance(own, nn.Linear) else ()

    def _filled(self, name: str, checkpoint: Checkpoint, averaging: Averaging | None) -> TorchvisionBackbone:
        """Itself with the weights of a checkpoint."""
        target = Target(self.model, f"torchvision:{name}")
        report = load_into(target, checkpoint, averaging)
        unknown_pixels = (
            "the checkpoint does not say how pixels were normalised: torchvision's mean and std are used"
        )
        self.provenance = replace(
            self.provenance, source=checkpoint.path.name, load=report, pixels_unknown=unknown_pixels
        )
        return self

    @classmethod
    def build(
        cls, name: str, weights: str | None, checkpoint: Path | None, size_px: int | None, init_seed: int
    ) -> TorchvisionBackbone:
        """Build a model by name; `weights` None gives a randomly initialised one, `ema` and `raw` choose among a checkpoint's.

        Raises:
            UsageError: there is no such model or weights, or the model has no linear layer to remove.
            DataMissingError: the weights cannot be downloaded.
        """
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise UsageError(
                unknown("backbone", f"torchvision:{name}", [f"torchvision:{one}" for one in known])
            )
        averaging = _averaging(weights) if checkpoint is not None else None
        entry = _entry(name, None if averaging else weights)
        with seeded(init_seed, "initial weights"):
            if checkpoint is not None:
                return cls._from_file(name, entry, checkpoint, averaging, size_px)
            if weights is None:
                source = f"initial weights, seed {init_seed}"
                origin = Provenance(_family(name), "untrained", "none", source)
                return cls(_model(name, None, size_px), *_reading(entry, size_px), origin)
            return cls._of_torchvision(name, entry, size_px)

    @classmethod
    def _from_file(
        cls, name: str, entry: Any, path: Path, averaging: Averaging | None, size_px: int | None
    ) -> TorchvisionBackbone:
        """A model with the weights of a checkpoint, and its classifier if the file has one."""
        content, origin = read_checkpoint(path), Provenance(_family(name), "pretrained")

        def filled() -> TorchvisionBackbone:
            backbone = cls(_model(name, None, size_px), *_reading(entry, size_px), origin)
            return backbone._filled(name, content, averaging)

        backbone = loaded(filled)
        target = Target(backbone.model, f"torchvision:{name}")
        backbone._take_head(best_match(target, content, averaging).weights)
        return backbone

    @classmethod
    def _of_torchvision(cls, name: str, entry: Any, size_px: int | None) -> TorchvisionBackbone:
        """A model with torchvision's own weights; it loads all of them or none."""
        model = _model(name, entry, size_px)
        whole = list(model.state_dict())
        seen = ("imagenet2012",) if "IMAGENET1K" in entry.name else None
        data, source = "ImageNet-1k" if seen else "unknown", f"torchvision:{name} [{entry.name}]"
        origin = Provenance(_family(name), "pretrained", data, source, trained_on=seen)
        backbone = cls(model, *_reading(entry, size_px), origin)
        own = backbone.model.state_dict()
        left_out = shortened(each for each in whole if each not in own)
        report = LoadReport(in_file=len(whole), used=len(own), left_out=left_out)
        backbone.provenance = replace(origin, load=report)
        return backbone


def _family(name: str) -> str:
    return name.partition("_")[0]


def _averaging(weights: str | None) -> Averaging | None:
    """Which of a checkpoint's weights `weights` asks for; None if it says nothing of that."""
    return "ema" if weights == "ema" else "raw" if weights == "raw" else None


def _entry(name: str, weights: str | None) -> Any:
    """Torchvision's weights of that name, or its default ones.

    Raises:
        UsageError: the model has no such weights.
    """
    enum: Any = torchvision.models.get_model_weights(name)
    if weights is None:
        return enum.DEFAULT
    if weights not in enum.__members__:
        choices = list(enum.__members__)
        message = f"unknown weights {weights!r} of torchvision:{name}"
        step = f"choose one of {', '.join(choices)}"
        raise UsageError(Problem(message, nearest=nearest(weights, choices), next_step=step))
    return enum[weights]


def _reading(entry: Any, size_px: int | None) -> tuple[InputSpec, EvaluationTransform]:
    """The pixels that a model of these weights takes, and how torchvision evaluates it."""
    preprocessing = entry.transforms()
    crop_px, resize_px = preprocessing.crop_size[0], preprocessing.resize_size[0]
    spec = InputSpec(size_px or int(crop_px), tuple(preprocessing.mean), tuple(preprocessing.std))
    kernel = preprocessing.interpolation.value
    return spec, EvaluationTransform(crop_px / resize_px, kernel, library="torchvision")


def _model(name: str, weights: Any, size_px: int | None) -> nn.Module:
    options = {"image_size": size_px} if name.startswith("vit_") and size_px and weights is None else {}
    try:
        make = functools.partial(torchvision.models.get_model, name, weights=weights, **options)
        return cast("nn.Module", make() if weights is None else loaded(make))
    except OSError as error:
        raise DataMissingError(
            Problem(
                f"the weights of torchvision:{name} cannot be loaded: {error}",
                next_step="connect to the internet once to download them, or set `checkpoint: FILE` or `pretrained: false`",
            )
        ) from error


def _remove_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Replace the last linear layer by the identity, and return its name and itself."""
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"{type(model).__name__} has no linear layer: only classification models work")
    name, head = linear[-1]
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
    return name, head
