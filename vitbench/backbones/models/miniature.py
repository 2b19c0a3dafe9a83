"""The miniature backbones, through timm's adapter."""

from __future__ import annotations

from dataclasses import replace

from vitbench.api import Provenance
from vitbench.backbones.miniature_records import FAMILIES, LICENCE, PRETRAIN_DATA, pretrainings, weights_file
from vitbench.backbones.models.miniature_nets import initialise
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_create import TimmModel, create
from vitbench.backbones.models.timm_file import from_file


def build(checkpoint: str, pretrained: bool, size_px: int | None, init_seed: int) -> TimmBackbone:
    """One miniature, with the weights that ship or with random ones.

    Raises:
        UsageError: the image size is not a multiple of the patch size.
    """
    made = pretrainings()[checkpoint]
    architecture, family = f"mini_{made.family}", FAMILIES[made.family]
    if pretrained:
        loaded = from_file(architecture, weights_file(checkpoint), {})
        provenance = replace(
            loaded.provenance,
            family=family,
            pretrain_data=PRETRAIN_DATA,
            source=f"miniature:{checkpoint}@{made.sha256[:12]}",
            trained_on=(),
            licence=LICENCE,
            pretrain_flops=made.pretrain_flops,
            pixels_unknown="",
            notes=(),
        )
        built = TimmModel(loaded.model, architecture, provenance)
    else:
        model = create(architecture)
        initialise(model, init_seed)
        source = f"initial weights, seed {init_seed}"
        built = TimmModel(
            model, architecture, Provenance(family, "untrained", "none", source, pretrain_flops=0)
        )
    backbone = TimmBackbone(built)
    return backbone if size_px is None else backbone.at_resolution(size_px)
