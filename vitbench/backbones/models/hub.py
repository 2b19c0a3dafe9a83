"""Wrapper of open_clip image encoders, and imports of optional libraries."""

from __future__ import annotations

import importlib
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance, Triple
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.seeding import seeded


def optional_library(name: str, package: str) -> Any:
    """Import an optional library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            Problem(f"this backbone needs {package}", next_step=f"pip install {package}")
        ) from error


def triple(values: Any) -> Triple:
    """Three numbers of a mean or standard deviation."""
    first, second, third = map(float, values)
    return first, second, third


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
        library = optional_library("open_clip", "open_clip_torch")
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
        spec = InputSpec(size_px, triple(encoder.image_mean), triple(encoder.image_std))
        state: Literal["pretrained", "untrained"] = "pretrained" if weights else "untrained"
        return cls(
            encoder.eval(),
            spec,
            Provenance("CLIP", state, pretrain_data if weights else "none", f"open_clip:{name} [{weights}]"),
        )
