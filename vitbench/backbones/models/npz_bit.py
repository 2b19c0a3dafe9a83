"""BiT ResNet-v2 from .npz arrays, with the original epsilon of weight standardisation (docs/protocols.md#bit-npz)."""

from __future__ import annotations

import re
from functools import partial

import torch
from timm.layers.std_conv import StdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor

from vitbench.backbones.models.npz_names import Arrays
from vitbench.backbones.models.npz_vit import conv, load_state
from vitbench.backbones.models.unfilled import on_meta
from vitbench.core.errors import UsageError

STD_EPS = 1e-10  # added to the variance (BT:bit_pytorch/models.py:25-32); timm uses 1e-8
NATIVE_PX = 224
ROOT = "resnet/root_block/standardized_conv2d/kernel"


def build_bit(arrays: Arrays, source: str) -> tuple[ResNetV2, int]:
    """Return a BiT without head, with its weights loaded, and its default image size; it works at any size.

    Raises:
        UsageError: the arrays are not those of a BiT.
    """
    blocks: dict[int, int] = {}
    for name in arrays:
        if found := re.match(r"resnet/block(\d+)/unit(\d+)/", name):
            blocks[int(found[1])] = max(blocks.get(int(found[1]), 0), int(found[2]))
    if not blocks or ROOT not in arrays:
        raise UsageError(f"{source} is not a BiT checkpoint that vitbench can read: it has no array {ROOT}")
    with on_meta():  # all weights are loaded
        model = ResNetV2(
            layers=[blocks[block] for block in sorted(blocks)],
            width_factor=arrays[ROOT].shape[3] // 64,
            num_classes=0,
            stem_type="fixed",
            conv_layer=partial(StdConv2d, eps=STD_EPS),
        )
    load_state(model, _state(arrays), source)
    return model, NATIVE_PX


def _state(arrays: Arrays) -> dict[str, Tensor]:
    state = {"stem.conv.weight": conv(arrays[ROOT]), **_norm("norm", arrays, "resnet/group_norm")}
    for name in arrays:
        unit = re.fullmatch(r"resnet/block(\d+)/unit(\d+)/([abc])/(proj/)?standardized_conv2d/kernel", name)
        if unit is None:
            continue
        block = f"stages.{int(unit[1]) - 1}.blocks.{int(unit[2]) - 1}"
        number = "abc".index(unit[3]) + 1
        if unit[4]:
            state[f"{block}.downsample.conv.weight"] = conv(arrays[name])
            continue
        state[f"{block}.conv{number}.weight"] = conv(arrays[name])
        state |= _norm(
            f"{block}.norm{number}", arrays, name.replace("standardized_conv2d/kernel", "group_norm")
        )
    return state


def _norm(own: str, arrays: Arrays, name: str) -> dict[str, Tensor]:
    return {
        f"{own}.weight": torch.from_numpy(arrays[f"{name}/gamma"].reshape(-1).copy()),
        f"{own}.bias": torch.from_numpy(arrays[f"{name}/beta"].reshape(-1).copy()),
    }
