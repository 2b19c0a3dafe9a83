"""Wrappers of Hugging Face transformers and open_clip models. Both libraries are optional."""

from __future__ import annotations

import importlib
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance, Triple
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
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
    """A vision model of Hugging Face transformers; features are chosen by `pooling`."""

    def __init__(self, model: nn.Module, spec: InputSpec, pooling: Pooling, provenance: Provenance) -> None:
        super().__init__()
        self.model = model
        self.input = spec
        self.pooling = pooling
        self.provenance = provenance
        with torch.no_grad():
            self.feature_dim = int(self.features(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """Pooled output, class token or mean patch token (B, D) of images (B, 3, S, S)."""
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
        """Load a model and its image processor; code from the hub is never executed.

        Raises:
            UsageError: transformers is not installed.
            DataMissingError: there is no such model, or it cannot be downloaded.
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
                    next_step="connect to the internet once to download it, or give the path of a saved model folder",
                )
            ) from error
        model = getattr(model, "vision_model", model)  # CLIP and similar models: the image encoder only
        size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
        native_px = int(size.get("height") or size.get("shortest_edge"))
        spec = InputSpec(size_px or native_px, _triple(processor.image_mean), _triple(processor.image_std))
        family = str(model.config.model_type)
        return cls(
            model.eval(),
            spec,
            pooling,
            Provenance(family, "pretrained", pretrain_data, f"hf:{name}@{revision}"),
        )


class OpenClipBackbone(nn.Module):
    """An image encoder of open_clip; features are its projected embedding."""

    def __init__(self, model: nn.Module, spec: InputSpec, provenance: Provenance) -> None:
        super().__init__()
        self.model = model
        self.input = spec
        self.provenance = provenance
        with torch.no_grad():
            self.feature_dim = int(self.features(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """Image embeddings (B, D) of images (B, 3, S, S), not normalised to unit length."""
        return cast("Tensor", self.model(images))

    @classmethod
    def build(cls, name: str, weights: str, pretrain_data: str, init_seed: int) -> OpenClipBackbone:
        """Load an image encoder, with pre-trained or seeded random weights.

        Raises:
            UsageError: open_clip is not installed, or has no such model.
            DataMissingError: the weights cannot be downloaded.
        """
        library = _library("open_clip", "open_clip_torch")
        if name not in library.list_models():
            command = 'python -c "import open_clip; print(open_clip.list_models())"'
            close = nearest(name, library.list_models())
            raise UsageError(Problem(f"unknown open_clip model {name!r}", nearest=close, next_step=command))
        try:
            with seeded(init_seed, "initial weights"):
                whole = library.create_model(name, pretrained=weights or None)
        except Exception as error:
            raise DataMissingError(
                Problem(
                    f"open_clip:{name} [{weights}] cannot be loaded: {error}",
                    next_step="connect to the internet once to download it, or give `weights: FILE`",
                )
            ) from error
        encoder = whole.visual
        size = encoder.image_size
        size_px = int(size[0] if isinstance(size, tuple | list) else size)
        spec = InputSpec(size_px, _triple(encoder.image_mean), _triple(encoder.image_std))
        state: Literal["pretrained", "untrained"] = "pretrained" if weights else "untrained"
        return cls(
            encoder.eval(),
            spec,
            Provenance("CLIP", state, pretrain_data if weights else "none", f"open_clip:{name} [{weights}]"),
        )
