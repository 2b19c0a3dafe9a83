"""ViT and R+ViT hybrids from .npz arrays, numerically equal to the released JAX code (docs/protocols.md#checkpoints).

The blocks are timm's. Unlike timm's own loader, this one uses tanh GELU, and the weight standardisation and group norm of Flax
in the hybrid's ResNet.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers.norm_act import GroupNormAct
from timm.layers.std_conv import StdConv2dSame
from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed  # type: ignore[attr-defined]
from torch import Tensor, nn

from vitbench.backbones.models.npz_names import Array, Arrays
from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.models.weights import fill
from vitbench.core.errors import UsageError

POSITIONS = "Transformer/posembed_input/pos_embedding"
BLOCK = "Transformer/encoderblock_{}/"
ATTENTION = "MultiHeadDotProductAttention_1/"
FLAX_GROUP_EPS = 1e-6  # Flax GroupNorm's default (VJ:vit_jax/models_resnet.py)
FLAX_STD_EPS = 1e-5  # added to the standard deviation (VJ:vit_jax/models_resnet.py:23-39)
ROOT_STRIDE = (
    4  # of the hybrid's root block; each stage after the first doubles it (VJ:vit_jax/models_vit.py)
)
MAP_HEAD = "MAPHead_0/"  # attention pooling (BV:models/vit.py)


class FlaxStdConv(StdConv2dSame):
    """Convolution with the weight standardisation of the hybrid's Flax code, which adds epsilon to the standard deviation."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply Flax's SAME padding, then convolve with the standardised weights."""
        flat = self.weight.flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        weight = (centred / (centred.square().mean(1, keepdim=True).sqrt() + FLAX_STD_EPS)).reshape_as(
            self.weight
        )
        pad_height, pad_width = (
            _same_padding(x.shape[2 + i], self.kernel_size[i], self.stride[i]) for i in range(2)
        )
        padded = F.pad(
            x, (pad_width // 2, pad_width - pad_width // 2, pad_height // 2, pad_height - pad_height // 2)
        )
        return F.conv2d(padded, weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _same_padding(length: int, kernel: int, stride: int) -> int:
    return max((-(-length // stride) - 1) * stride + kernel - length, 0)


def build_vit(arrays: Arrays, source: str) -> tuple[VisionTransformer, int]:
    """Return a ViT without head, with its weights loaded, and its native image size; array shapes give the architecture.

    Raises:
        UsageError: the arrays are not those of a ViT with position embeddings on a square grid.
    """
    try:
        width, heads, _ = arrays[BLOCK.format(0) + ATTENTION + "query/kernel"].shape
        hidden = arrays[BLOCK.format(0) + "MlpBlock_3/Dense_0/kernel"].shape[1]
        tokens = arrays[POSITIONS].shape[1] - ("cls" in arrays)
        patch = arrays["embedding/kernel"].shape[0]
    except KeyError as error:
        raise UsageError(
            f"{source} is not a ViT checkpoint that vitbench can read: it has no array {error}"
        ) from error
    depth = len({name.split("/")[1] for name in arrays if name.startswith("Transformer/encoderblock_")})
    grid = round(tokens**0.5)
    if grid**2 != tokens:
        raise UsageError(f"{source} has {tokens} position embeddings, which do not form a square grid")
    size_px = grid * patch * _stride(arrays)
    with on_meta():  # all weights are loaded
        model = VisionTransformer(
            img_size=size_px, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=hidden / width,
            num_classes=0, class_token="cls" in arrays, global_pool=_pool(arrays), fc_norm=False,
            act_layer=partial(nn.GELU, approximate="tanh"), norm_layer=partial(nn.LayerNorm, eps=1e-6),
            weight_init="skip", **({"embed_layer": _hybrid_embedding(arrays)} if "conv_root/kernel" in arrays else {}),
        )  # fmt: skip
    try:
        state = _vit_state(arrays, depth)
    except KeyError as error:
        raise UsageError(f"{source} has no array {error}") from error
    load_state(model, state, source)
    return model, size_px


def _pool(arrays: Arrays) -> Literal["map", "token", "avg"]:
    """Timm's name of what the head was put on: attention pooling, the class token, or the mean of all patches."""
    if f"{MAP_HEAD}probe" in arrays:
        return "map"
    return "token" if "cls" in arrays else "avg"


def _stages(arrays: Arrays) -> list[int]:
    """Units in each stage of the hybrid's ResNet; none if it is the root block alone."""
    stages: dict[int, int] = {}
    for found in (re.match(r"block(\d+)/unit(\d+)/", name) for name in arrays):
        if found:
            stages[int(found[1])] = max(stages.get(int(found[1]), 0), int(found[2]))
    return [stages[stage] for stage in sorted(stages)]


def _stride(arrays: Arrays) -> int:
    """The stride of what stands before the patches: 1 for a ViT, 16 for R50+ViT-B/16, 32 for R26+S/32."""
    if "conv_root/kernel" not in arrays:
        return 1
    return int(ROOT_STRIDE * 2 ** max(len(_stages(arrays)) - 1, 0))


def load_state(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load all weights of a model from `state`.

    Raises:
        UsageError: a weight is missing or has another shape.
    """
    own = model.state_dict()
    if missing := sorted(set(own) - set(state)):
        raise UsageError(f"{source} is missing {len(missing)} of {len(own)} weights, such as {missing[0]}")
    wrong = [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        raise UsageError(
            f"{source}: {wrong[0]} has shape {tuple(state[wrong[0]].shape)}, expected {tuple(own[wrong[0]].shape)}"
        )
    fill(model, state)


def _vit_state(arrays: Arrays, depth: int) -> dict[str, Tensor]:
    state = {
        "pos_embed": _tensor(arrays[POSITIONS]),
        "patch_embed.proj.weight": conv(arrays["embedding/kernel"]),
        "patch_embed.proj.bias": _tensor(arrays["embedding/bias"]),
        "norm.weight": _tensor(arrays["Transformer/encoder_norm/scale"]),
        "norm.bias": _tensor(arrays["Transformer/encoder_norm/bias"]),
    }
    if "cls" in arrays:
        state["cls_token"] = _tensor(arrays["cls"])
    for i in range(depth):
        inside = arrays.inside(BLOCK.format(i))
        state |= {f"blocks.{i}.{name}": value for name, value in _block(inside).items()}
    if f"{MAP_HEAD}probe" in arrays:
        pooling = arrays.inside(MAP_HEAD)
        state |= {f"attn_pool.{name}": value for name, value in _attention_pooling(pooling).items()}
    if "conv_root/kernel" in arrays:
        state |= {f"patch_embed.backbone.{name}": value for name, value in _resnet_state(arrays).items()}
    return state


def _block(arrays: Arrays) -> dict[str, Tensor]:
    """Convert one encoder block: heads flattened; query, key and value stacked."""
    found = _projections(arrays.inside(ATTENTION), "attn.qkv", ("query", "key", "value"))
    found |= _output(arrays.inside(ATTENTION), "attn.proj")
    for own, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
        found |= {f"{own}.weight": arrays[f"{name}/scale"], f"{own}.bias": arrays[f"{name}/bias"]}
    found |= _mlp(arrays.inside("MlpBlock_3/"))
    return {name: _tensor(value) for name, value in found.items()}


def _attention_pooling(arrays: Arrays) -> dict[str, Tensor]:
    """Convert the pooling head of SigLIP and its kind: a learned query attends to all patches, then a residual MLP."""
    attention = arrays.inside("MultiHeadDotProductAttention_0/")
    found: dict[str, Array] = {"latent": arrays["probe"]}
    found |= _projections(attention, "q", ("query",)) | _projections(attention, "kv", ("key", "value"))
    found |= _output(attention, "proj")
    found |= {"norm.weight": arrays["LayerNorm_0/scale"], "norm.bias": arrays["LayerNorm_0/bias"]}
    found |= _mlp(arrays.inside("MlpBlock_0/"))
    return {name: _tensor(value) for name, value in found.items()}


def _projections(attention: Arrays, own: str, parts: tuple[str, ...]) -> dict[str, Array]:
    """The input projections of an attention layer, stacked, with their heads flattened."""
    kernels = [attention[f"{part}/kernel"] for part in parts]
    biases = [attention[f"{part}/bias"].reshape(-1) for part in parts]
    return {
        f"{own}.weight": np.concatenate([kernel.reshape(len(kernel), -1).T for kernel in kernels]),
        f"{own}.bias": np.concatenate(biases),
    }


def _output(attention: Arrays, own: str) -> dict[str, Array]:
    """The output projection of an attention layer."""
    kernel = attention["out/kernel"]
    return {
        f"{own}.weight": kernel.reshape(-1, kernel.shape[-1]).T,
        f"{own}.bias": attention["out/bias"],
    }


def _mlp(arrays: Arrays) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for own, name in (("mlp.fc1", "Dense_0"), ("mlp.fc2", "Dense_1")):
        found |= {f"{own}.weight": arrays[f"{name}/kernel"].T, f"{own}.bias": arrays[f"{name}/bias"]}
    return found


def _hybrid_embedding(arrays: Arrays) -> Any:
    """Return the embedding layer of a hybrid: a ResNet, or its root block alone (R+Ti/16); the arrays give stages and units."""
    layers: dict[str, Any] = {
        "conv_layer": FlaxStdConv,
        "norm_layer": partial(GroupNormAct, num_groups=32, eps=FLAX_GROUP_EPS),
    }
    width, stages = arrays["conv_root/kernel"].shape[3], _stages(arrays)
    if not stages:
        root = create_resnetv2_stem(3, width, stem_type="same", preact=False, **layers)
        return partial(HybridEmbed, backbone=root)
    resnet = ResNetV2(
        layers=stages, num_classes=0, global_pool="", preact=False, stem_type="same", width_factor=width // 64, **layers
    )  # fmt: skip
    return partial(HybridEmbed, backbone=resnet)


def _resnet_state(arrays: Arrays) -> dict[str, Tensor]:
    stem = "stem." if _stages(arrays) else ""
    found = {f"{stem}conv.weight": conv(arrays["conv_root/kernel"])}
    found |= _norm(f"{stem}norm", arrays, "gn_root")
    for name in arrays:
        unit = re.fullmatch(r"block(\d+)/unit(\d+)/(conv1|conv2|conv3|conv_proj)/kernel", name)
        if unit is None:
            continue
        block = f"stages.{int(unit[1]) - 1}.blocks.{int(unit[2]) - 1}"
        own = "downsample." if unit[3] == "conv_proj" else ""
        number = "" if own else unit[3][-1]
        found[f"{block}.{own}conv{number}.weight"] = conv(arrays[name])
        norm = name.replace("/conv", "/gn").removesuffix("/kernel")
        found |= _norm(f"{block}.{own}norm{number}", arrays, norm)
    return found


def _norm(own: str, arrays: Arrays, name: str) -> dict[str, Tensor]:
    return {
        f"{own}.weight": _tensor(arrays[f"{name}/scale"]).reshape(-1),
        f"{own}.bias": _tensor(arrays[f"{name}/bias"]).reshape(-1),
    }


def conv(kernel: Array) -> Tensor:
    """Transpose a kernel from (H, W, in, out) to torch's (out, in, H, W)."""
    return _tensor(kernel.transpose(3, 2, 0, 1))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
