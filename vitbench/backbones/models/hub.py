"""transformers' and open_clip's models behind vitbench's contract. Both libraries are extras."""

from __future__ import annotations

import importlib
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance, Triple
from vitbench.core.errors import DataMissingError, Problem, UsageError, unknown
from vitbench.core.seeding import seeded

Pooling = Literal["own", "class_token", "patch_mean"]


def _library(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            Problem(f"this backbone needs {package}", next_step=f"pip install {package}")
        ) from error


def _triple(values: Any) -> Triple:
    first, second, third = map(float, values)
    return first, second, third


class TransformersBackbone(nn.Module):
    """A vision model of transformers."""

    def __init__(self, model: nn.Module, spec: InputSpec, pooling: Pooling, provenance: Provenance) -> None:
        super().__init__()
        self.model = model
        self.input = spec
        self.pooling = pooling
        self.provenance = provenance
        with torch.no_grad():
            self.feature_dim = int(self.features(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """The pooled output (B, D)."""
        output = self.model(pixel_values=images)
        pooled = getattr(output, "pooler_output", None)
        if self.pooling == "own" and pooled is not None:
            return cast("Tensor", pooled).flatten(1)
        states = cast("Tensor", output.last_hidden_state)
        if states.ndim == 4:  # convolutional: (B, D, h, w)
            return states.mean((2, 3))
        return states[:, 0] if self.pooling != "patch_mean" else states[:, 1:].mean(1)

    @classmethod
    def build(
        cls, name: str, revision: str, pooling: Pooling, size_px: int | None, pretrain_data: str
    ) -> TransformersBackbone:
        """Load a model and its processor; nothing from the hub is executed.

        Raises:
            UsageError: transformers is not installed.
            DataMissingError: there is no such model, or it cannot be fetched.
        """
        library = _library("transformers", "transformers")
        try:
            processor = library.AutoImageProcessor.from_pretrained(
                name, revision=revision, trust_remote_code=False
            )
            model = library.AutoModel.from_pretrained(
                name, revision=revision, trust_remote_code=False, use_safetensors=True
            )
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise DataMissingError(
                Problem(
                    f"hf:{name} cannot be loaded: {first}",
                    next_step="go online once, or name the folder it was saved to",
                )
            ) from error
        model = getattr(model, "vision_model", model)  # of CLIP and its kin the image tower
        size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
        own = int(size.get("height") or size.get("shortest_edge"))
        spec = InputSpec(size_px or own, _triple(processor.image_mean), _triple(processor.image_std))
        family = str(model.config.model_type)
        return cls(
            model.eval(),
            spec,
            pooling,
            Provenance(family, "pretrained", pretrain_data, f"hf:{name}@{revision}"),
        )


class OpenClipBackbone(nn.Module):
    """An image tower of open_clip; features are the projected embedding."""

    def __init__(self, model: nn.Module, spec: InputSpec, provenance: Provenance) -> None:
        super().__init__()
        self.model = model
        self.input = spec
        self.provenance = provenance
        with torch.no_grad():
            self.feature_dim = int(self.features(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """The image embedding (B, D), before it is brought to unit length."""
        return cast("Tensor", self.model(images))

    @classmethod
    def build(cls, name: str, weights: str, pretrain_data: str, init_seed: int) -> OpenClipBackbone:
        """Load an image tower.

        Raises:
            UsageError: open_clip is not installed, or knows no such model.
            DataMissingError: the weights cannot be fetched.
        """
        library = _library("open_clip", "open_clip_torch")
        if name not in library.list_models():
            raise UsageError(unknown("open_clip model", name, library.list_models()))
        try:
            with seeded(init_seed, "initial weights"):
                whole = library.create_model(name, pretrained=weights or None)
        except Exception as error:
            raise DataMissingError(
                Problem(
                    f"open_clip:{name} [{weights}] cannot be loaded: {error}",
                    next_step="go online once, or give a file",
                )
            ) from error
        tower = whole.visual
        size = tower.image_size
        side = int(size[0] if isinstance(size, tuple | list) else size)
        spec = InputSpec(side, _triple(tower.image_mean), _triple(tower.image_std))
        state: Literal["pretrained", "untrained"] = "pretrained" if weights else "untrained"
        return cls(
            tower.eval(),
            spec,
            Provenance("CLIP", state, pretrain_data if weights else "none", f"open_clip:{name} [{weights}]"),
        )
