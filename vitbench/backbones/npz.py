"""Google's released ViT, hybrid and BiT checkpoints, `npz:PATH`: the architecture is read off the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vitbench.core.registry import register_backbone

if TYPE_CHECKING:
    from vitbench.backbones.models.npz import NpzBackbone

Side = Annotated[int, Field(ge=1, le=4096)]


def load(path: str | Path, position_resize: Literal["aligned", "timm"] = "aligned") -> NpzBackbone:
    """The backbone in a .npz file; `.features(images)`, `.logits(images)`, `.at_resolution(size_px)`.

    Raises:
        DataMissingError: there is no such file.
        UsageError: it holds no ViT, hybrid or BiT.
    """
    from vitbench.backbones.models.npz import load as load_file

    return load_file(Path(path), position_resize)


@register_backbone("npz", argument="path", source="storage.googleapis.com/vit_models, bit_models")
def npz(
    path: Path,
    *,
    size_px: Side | None = None,
    position_resize: Literal["aligned", "timm"] = "aligned",
    pretrain_data: str = "unknown",
) -> NpzBackbone:
    """A .npz checkpoint of Google's, exact to the reference: ViT, AugReg, R50+ViT, BiT-S/M; features are the pre-logits.

    Args:
        path: the file.
        size_px: the side of the images it is to take; its own if not given.
        position_resize: `aligned` as the ViT paper resizes position embeddings, or `timm` for timm's way.
        pretrain_data: what it was trained on, for the board.
    """
    from dataclasses import replace

    backbone = load(path, position_resize)
    if size_px is not None:
        backbone = backbone.at_resolution(size_px)
    backbone.provenance = replace(backbone.provenance, pretrain_data=pretrain_data)
    return backbone
