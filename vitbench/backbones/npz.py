"""Registers `npz:PATH`, Google's released ViT, hybrid and BiT checkpoints; the file determines the architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from vitbench.backbones.models.npz import NpzBackbone

SizePx = Annotated[int, Field(ge=1, le=4096)]


def load(path: str | Path, position_resize: Literal["aligned", "timm"] = "aligned") -> NpzBackbone:
    """Return the backbone of a .npz checkpoint, with `.features(images)`, `.logits(images)` and `.at_resolution(size_px)`.

    Raises:
        DataMissingError: the file does not exist.
        UsageError: it is not a ViT, hybrid or BiT checkpoint.
    """
    from vitbench.backbones.models.npz import load as load_file

    return load_file(Path(path), position_resize)


@register_backbone(
    "npz",
    libraries=("timm", "torch"),
    version=2,
    argument="path",
    source="storage.googleapis.com/vit_models, bit_models",
)
def npz(
    path: Path,
    *,
    size_px: SizePx | None = None,
    position_resize: Literal["aligned", "timm"] = "aligned",
) -> NpzBackbone:
    """A .npz checkpoint of Google's, exact: ViT, AugReg, hybrids, SigLIP, BiT-S/M; features are the pre-logits.

    Args:
        path: the .npz file.
        size_px: image size in pixels; default: the checkpoint's.
        position_resize: how position embeddings are resized: `aligned` as in the ViT paper, or `timm` as in timm.
    """
    backbone = load(path, position_resize)
    return backbone if size_px is None else backbone.at_resolution(size_px)
