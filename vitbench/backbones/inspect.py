"""Data for `vitbench inspect`: attention rollout, attention distances and embeddings of a ViT (ViT paper, Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.api import Pixels, Provenance
from vitbench.backbones.build import build
from vitbench.backbones.models.attention import (
    attention_weights,
    embedding_filters,
    mean_distances,
    position_similarity,
    rollout,
    vit_of,
)
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.data.decode import decode
from vitbench.data.preprocess import apply, normalise, preset

Values = NDArray[np.float32]


@dataclass(frozen=True)
class AttendedImage:
    """An image (S, S, 3) in [0, 1], and its attention rollout (S, S) in [0, 1]."""

    name: str
    image: Values
    rollout: Values


@dataclass(frozen=True)
class Inspection:
    """The results of inspecting a ViT with L blocks of H heads on an (h, w) grid of patches.

    `distances` (L, H) are mean attention distances in pixels; `filters` are the principal components of the patch embedding,
    each (P, P, 3) in [0, 1]; `similarity` (h, w, h, w) is the cosine similarity of position embeddings.
    """

    spec: str
    provenance: Provenance
    params: int
    size_px: int
    grid: tuple[int, int]
    images: tuple[AttendedImage, ...]
    distances: Values
    filters: tuple[Values, ...]
    similarity: Values


def inspect_backbone(spec: str, options: dict[str, Any], images: Sequence[Path]) -> Inspection:
    """Inspect a ViT on image files, or on scikit-learn's two sample photographs.

    Raises:
        UsageError: the backbone is not a ViT with a class token, or a file is not an image.
        DataMissingError: a file does not exist.
    """
    backbone = build(spec, options).eval()
    vit = vit_of(backbone)
    grid = (int(vit.patch_embed.grid_size[0]), int(vit.patch_embed.grid_size[1]))
    prefix = int(getattr(vit, "num_prefix_tokens", 1))
    if not prefix:
        raise UsageError(f"{spec} has no class token, which attention rollout needs")
    names, raw = _read(images)
    size_px = backbone.input.size_px
    pixels = torch.cat([apply([one], preset("squash", size_px)) for one in raw])
    weights = attention_weights(backbone, normalise(pixels, backbone.input.mean, backbone.input.std))
    maps = rollout(weights, prefix, grid)
    return Inspection(
        spec=spec,
        provenance=backbone.provenance,
        params=backbone.params,
        size_px=size_px,
        grid=grid,
        images=tuple(_attended(*one) for one in zip(names, pixels, maps, strict=True)),
        distances=mean_distances(weights, prefix, grid, size_px // grid[0]).numpy(),
        filters=tuple(one.permute(1, 2, 0).numpy() for one in embedding_filters(vit)),
        similarity=position_similarity(vit, grid).numpy(),
    )


def _read(paths: Sequence[Path]) -> tuple[list[str], list[Pixels]]:
    if not paths:
        from sklearn.datasets import load_sample_images

        bunch = load_sample_images()
        return [Path(name).name for name in bunch.filenames], [np.array(image) for image in bunch.images]
    found = []
    for path in paths:
        if not path.is_file():
            raise DataMissingError(f"{path} does not exist")
        try:
            found.append(decode(path.read_bytes(), exif_rotate=True))
        except ValueError as error:
            raise UsageError(f"{path} cannot be decoded: {error}") from error
    return [path.name for path in paths], found


def _attended(name: str, pixels: Tensor, rollout: Tensor) -> AttendedImage:
    image = (pixels.permute(1, 2, 0).float() / 255).numpy()
    wide = torch.nn.functional.interpolate(rollout[None, None], image.shape[:2], mode="bilinear")[0, 0]
    return AttendedImage(name, image, wide.numpy())
