"""The page of `vitbench inspect`: attention rollout, attention distance and embeddings of one ViT, as one HTML file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from vitbench.core.format import quantity
from vitbench.report.charts.style import svg
from vitbench.report.page import page_environment, page_styles

if TYPE_CHECKING:
    from vitbench.backbones.inspect import AttendedImage, Inspection

SHOWN_PX = 256
DIMMEST = 0.15  # brightness of an image where the rollout is zero
TILE_PX = 40


def inspect_page(found: Inspection) -> str:
    """The HTML page of one inspection."""
    parts = (
        f"{quantity(found.params)} parameters",
        f"{found.size_px} px",
        f"{len(found.distances)} blocks",
        f"{found.grid[0]} x {found.grid[1]} patches",
    )
    return (
        page_environment()
        .get_template("inspect.html.j2")
        .render(
            spec=found.spec,
            origin=found.provenance,
            summary=", ".join(parts),
            seen=[_shown(image) for image in found.images],
            distances=Markup(_distance_chart(found.distances)),
            filters=[_png(one, TILE_PX) for one in found.filters],
            similarity=_png(_mosaic(found.similarity), 2 * SHOWN_PX),
            **page_styles("print.css"),
        )
    )


def _shown(image: AttendedImage) -> dict[str, str]:
    dimmed = image.image * (DIMMEST + (1 - DIMMEST) * image.rollout)[..., None]
    return {
        "name": image.name,
        "image": _png(image.image, SHOWN_PX),
        "attended": _png(dimmed, SHOWN_PX),
    }


def _mosaic(similarity: NDArray[np.float32]) -> NDArray[np.float64]:
    """The similarity map of each patch, arranged by patch with separating lines, (h (h + 1), w (w + 1))."""
    height, width = similarity.shape[:2]
    canvas = np.ones((height * (height + 1), width * (width + 1)))
    scaled = (similarity.astype(np.float64) + 1) / 2
    for row in range(height):
        for column in range(width):
            top, left = row * (height + 1), column * (width + 1)
            canvas[top : top + height, left : left + width] = scaled[row, column]
    return canvas


def _png(values: NDArray[Any], size_px: int) -> str:
    """Values in [0, 1], (H, W) or (H, W, 3), as a data URL."""
    image = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    if max(image.size) < size_px:
        image = image.resize((size_px, size_px * image.height // image.width), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _distance_chart(distances: NDArray[np.float32]) -> str:
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
