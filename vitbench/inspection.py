"""`vitbench inspect`: a page of what a ViT sees, from sample pictures and its weights (ViT paper, Fig. 6 and 7)."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitbench.api import Pixels
from vitbench.backbones.models.attention import (
    attention_weights,
    embedding_filters,
    mean_distances,
    position_similarity,
    rollout,
    vit_of,
)
from vitbench.backbones.models.built import BuiltBackbone
from vitbench.data.images import decode
from vitbench.data.preprocess import apply, normalise, preset
from vitbench.errors import DataMissingError, UsageError
from vitbench.randomness import seeded
from vitbench.registry import BACKBONES
from vitbench.report.charts import svg
from vitbench.report.html import page_environment, page_styles

SHOWN_PX = 256
DIMMEST = 0.15  # of a picture where the rollout is zero
TILE_PX = 40


@dataclass(frozen=True)
class Seen:
    """A picture, and where the class token's attention comes from."""

    name: str
    picture: str
    attended: str


def inspect_backbone(spec: str, options: dict[str, Any], pictures: Sequence[Path]) -> str:
    """The page for a backbone.

    Raises:
        UsageError: it is no ViT, or a file is no picture.
        DataMissingError: a file is not there.
    """
    with seeded(0, "construction"):
        entry, module = BACKBONES.make(spec, options)
    backbone = BuiltBackbone(module, spec, entry.labels).eval()
    vit = vit_of(backbone)
    grid = (int(vit.patch_embed.grid_size[0]), int(vit.patch_embed.grid_size[1]))
    prefix = int(getattr(vit, "num_prefix_tokens", 1))
    if not prefix:
        raise UsageError(f"{spec} has no class token: there is nothing whose attention could be followed")
    names, raw = _read(pictures)
    size_px = backbone.input.size_px
    pixels = torch.cat([apply([one], preset("squash", size_px)) for one in raw])
    images = normalise(pixels, backbone.input.mean, backbone.input.std)
    weights = attention_weights(backbone, images)
    maps = rollout(weights, prefix, grid)
    facts = (
        f"{backbone.params / 1e6:.1f} M parameters",
        f"{size_px} px",
        f"{len(weights)} blocks",
        f"{grid[0]} x {grid[1]} patches",
    )
    distances = mean_distances(weights, prefix, grid, size_px // grid[0])
    return (
        page_environment()
        .get_template("inspect.html.j2")
        .render(
            spec=spec,
            origin=backbone.provenance,
            facts=", ".join(facts),
            seen=[_seen(*one) for one in zip(names, pixels, maps, strict=True)],
            distances=Markup(_distance_chart(distances)),
            filters=[_picture(one.permute(1, 2, 0).numpy(), TILE_PX) for one in embedding_filters(vit)],
            similarity=_picture(_mosaic(position_similarity(vit, grid)), 2 * SHOWN_PX),
            **page_styles(),
        )
    )


def _read(pictures: Sequence[Path]) -> tuple[list[str], list[Pixels]]:
    """The named pictures, or scikit-learn's two sample photographs."""
    if not pictures:
        from sklearn.datasets import load_sample_images

        bunch = load_sample_images()
        return [Path(name).name for name in bunch.filenames], [np.array(image) for image in bunch.images]
    found = []
    for path in pictures:
        if not path.is_file():
            raise DataMissingError(f"there is no picture {path}")
        try:
            found.append(decode(path.read_bytes(), exif_rotate=True))
        except ValueError as error:
            raise UsageError(f"{path} cannot be decoded: {error}") from error
    return [path.name for path in pictures], found


def _seen(name: str, pixels: Tensor, seen: Tensor) -> Seen:
    picture = pixels.permute(1, 2, 0).float().numpy() / 255
    wide = torch.nn.functional.interpolate(seen[None, None], picture.shape[:2], mode="bilinear")[0, 0].numpy()
    return Seen(
        name,
        _picture(picture, SHOWN_PX),
        _picture(picture * (DIMMEST + (1 - DIMMEST) * wide)[..., None], SHOWN_PX),
    )


def _mosaic(similarity: Tensor) -> NDArray[np.float64]:
    """Each patch's map of similarities at its own place, (h (h + 1), w (w + 1)), with lines between."""
    height, width = similarity.shape[:2]
    canvas = np.ones((height * (height + 1), width * (width + 1)))
    scaled = (similarity.double().numpy() + 1) / 2
    for row in range(height):
        for column in range(width):
            top, left = row * (height + 1), column * (width + 1)
            canvas[top : top + height, left : left + width] = scaled[row, column]
    return canvas


def _picture(values: NDArray[Any], side_px: int) -> str:
    """Values in [0, 1], (H, W) or (H, W, 3), as a data address."""
    image = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    if max(image.size) < side_px:
        image = image.resize((side_px, side_px * image.height // image.width), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _distance_chart(distances: Tensor) -> str:
    rows = [
        {"block": block, "head": head, "distance": float(value)}
        for block, heads in enumerate(distances, start=1)
        for head, value in enumerate(heads, start=1)
    ]
    chart = alt.Chart(pd.DataFrame(rows)).mark_circle(size=45, color="#0072b2", opacity=0.8)
    encoded = chart.encode(
        alt.X(
            "block:Q", title="block", axis=alt.Axis(tickMinStep=1, grid=False), scale=alt.Scale(zero=False)
        ),
        alt.Y("distance:Q", title="mean attention distance (px)"),
    )
    return svg(encoded.properties(width=420, height=260))
