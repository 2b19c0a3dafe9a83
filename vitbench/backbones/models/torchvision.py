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
        enum = torchvision.models.get_model_weights(name)
        entry: Any = enum.DEFAULT
        averaging: Averaging | None = None
        if checkpoint is not None and weights in ("ema", "raw"):
            averaging = "ema" if weights == "ema" else "raw"
        elif weights is not None:
            if weights not in enum.__members__:
                raise UsageError(
                    Problem(
                        f"unknown weights {weights!r} of torchvision:{name}",
                        nearest=nearest(weights, list(enum.__members__)),
                        next_step=f"choose one of {', '.join(enum.__members__)}",
                    )
                )
            entry = enum[weights]
        preprocessing = entry.transforms()
        spec = InputSpec(
            size_px or int(preprocessing.crop_size[0]), tuple(preprocessing.mean), tuple(preprocessing.std)
        )
        evaluation = EvaluationTransform(
            crop_pct=preprocessing.crop_size[0] / preprocessing.resize_size[0],
            interpolation=preprocessing.interpolation.value,
            library="torchvision",
        )
        origin = Provenance(name.partition("_")[0], "pretrained")
        with seeded(init_seed, "initial weights"):
            if checkpoint is not None:
                content = read_checkpoint(checkpoint)
                backbone = loaded(
                    lambda: cls(_model(name, None, size_px), spec, evaluation, origin)._filled(
                        name, content, averaging
                    )
                )
                target = Target(backbone.model, f"torchvision:{name}")
                backbone._take_head(best_match(target, content, averaging).weights)
                return backbone
            model = _model(name, entry if weights else None, size_px)
        if weights is None:
            source = f"initial weights, seed {init_seed}"
            return cls(model, spec, evaluation, Provenance(origin.family, "untrained", "none", source))
        whole = list(model.state_dict())
        seen = ("imagenet2012",) if "IMAGENET1K" in entry.name else None
        data = "ImageNet-1k" if seen else "unknown"
        origin = Provenance(
            origin.family, "pretrained", data, f"torchvision:{name} [{entry.name}]", trained_on=seen
        )
        backbone = cls(model, spec, evaluation, origin)
        own = backbone.model.state_dict()
        left_out = shortened(
            each for each in whole if each not in own
        )  # torchvision loads all tensors or none
        report = LoadReport(in_file=len(whole), used=len(own), left_out=left_out)
        backbone.provenance = replace(origin, load=report)
        return backbone


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
