"""torchvision's models behind vitbench's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torchvision
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.weights import load_into, read_checkpoint
from vitbench.core.errors import DataMissingError, Problem, UsageError, unknown
from vitbench.core.seeding import seeded

NATIVE_PX = 224


class TorchvisionBackbone(nn.Module):
    """A torchvision classifier whose last linear layer is left out."""

    def __init__(self, model: nn.Module, spec: InputSpec, provenance: Provenance) -> None:
        super().__init__()
        self.feature_dim = _take_off_head(model)
        self.model = model
        self.input = spec
        self.provenance = provenance

    def features(self, images: Tensor) -> Tensor:
        """What the last linear layer was put on, (B, D)."""
        return cast("Tensor", self.model(images))

    @classmethod
    def build(
        cls, name: str, weights: str | None, checkpoint: Path | None, size_px: int | None, init_seed: int
    ) -> TorchvisionBackbone:
        """Build a model by name.

        Raises:
            UsageError: there is no such model or no such weights, or it is no classifier.
            DataMissingError: the weights cannot be fetched.
        """
        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise UsageError(
                unknown("backbone", f"torchvision:{name}", [f"torchvision:{one}" for one in known])
            )
        enum = torchvision.models.get_model_weights(name)
        facts: Any = enum.DEFAULT
        if weights is not None:
            if weights not in enum.__members__ and weights != "DEFAULT":
                raise UsageError(unknown("weights", weights, list(enum.__members__)))
            facts = enum.DEFAULT if weights == "DEFAULT" else enum[weights]
        how = facts.transforms()
        spec = InputSpec(size_px or int(how.crop_size[0]), tuple(how.mean), tuple(how.std))
        with seeded(init_seed, "initial weights"):
            model = _model(name, None if checkpoint is not None or weights is None else facts, size_px)
        if checkpoint is not None:
            backbone = cls(model, spec, Provenance(name, "pretrained", "unknown", checkpoint.name))
            load_into(backbone.model, read_checkpoint(checkpoint), f"{checkpoint} for torchvision:{name}")
            return backbone
        family = name.partition("_")[0]
        if weights is None:
            return cls(
                model, spec, Provenance(family, "untrained", "none", f"initial weights, seed {init_seed}")
            )
        seen = ("imagenet2012",) if "IMAGENET1K" in facts.name else ()
        data = "ImageNet-1k" if seen else "unknown"
        return cls(
            model,
            spec,
            Provenance(family, "pretrained", data, f"torchvision:{name} [{facts.name}]", trained_on=seen),
        )


def _model(name: str, weights: Any, size_px: int | None) -> nn.Module:
    options = {"image_size": size_px} if name.startswith("vit_") and size_px and weights is None else {}
    try:
        return cast("nn.Module", torchvision.models.get_model(name, weights=weights, **options))
    except OSError as error:
        raise DataMissingError(
            Problem(
                f"the weights of torchvision:{name} cannot be loaded: {error}",
                next_step="go online once, or give `checkpoint: FILE`, or `pretrained: false`",
            )
        ) from error


def _take_off_head(model: nn.Module) -> int:
    """Replace the last linear layer by nothing, and give its width."""
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(
            f"{type(model).__name__} ends in no linear layer: it is no classifier that can be probed"
        )
    name, head = linear[-1]
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
    return head.in_features
