"""Build a backbone from one of Google's .npz checkpoints; array names and shapes determine the architecture."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.npz_bit import build_bit
from vitbench.backbones.models.npz_names import Arrays, read_npz
from vitbench.backbones.models.npz_vit import build_vit
from vitbench.backbones.models.positions import PositionResize, check_patches, resize_position_embedding

HALF = (0.5, 0.5, 0.5)  # ViT and BiT take pixels in [-1, 1] (docs/protocols.md#preprocessing-presets)


class NpzBackbone(nn.Module):
    """A ViT, hybrid or BiT of a .npz checkpoint; features are the pre-logits, after the hidden tanh layer if there is one."""

    def __init__(self, arrays: Arrays, source: str, position_resize: PositionResize = "aligned") -> None:
        super().__init__()
        is_bit = any(name.startswith("resnet/") for name in arrays)
        built: tuple[Any, int] = (build_bit if is_bit else build_vit)(arrays, source)
        self.model: nn.Module = built[0]
        self.pre_logits = _dense(arrays, "pre_logits")
        self.head = _head(arrays)
        self.position_resize: PositionResize = position_resize
        self.input = InputSpec(built[1], HALF, HALF)
        self.feature_dim = int(built[0].num_features)
        family = "BiT" if is_bit else "Hybrid" if "conv_root/kernel" in arrays else "ViT"
        self.provenance = Provenance(family, "pretrained", "unknown", source, len(arrays), 0, 0)

    def features(self, images: Tensor) -> Tensor:
        """The pre-logits (B, D) of images (B, 3, S, S)."""
        tokens = self.model.forward_features(images)  # type: ignore[operator]
        pooled = cast("Tensor", self.model.forward_head(tokens, pre_logits=True))  # type: ignore[operator]
        return pooled if self.pre_logits is None else torch.tanh(self.pre_logits(pooled))

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the classifier in the checkpoint, for images (B, 3, S, S).

        Raises:
            ValueError: the checkpoint has no classifier.
        """
        if self.head is None:
            raise ValueError(f"{self.provenance.source} has no classifier")
        return cast("Tensor", self.head(self.features(images)))

    def at_resolution(self, size_px: int) -> NpzBackbone:
        """The same weights at another image size; a ViT's position embeddings are resized.

        Raises:
            UsageError: the image size is not a multiple of the patch size.
        """
        check_patches(self.model, size_px, self.provenance.source)
        resized = copy.deepcopy(self)
        resized.input = InputSpec(size_px, HALF, HALF)
        if isinstance(positions := getattr(resized.model, "pos_embed", None), nn.Parameter):
            embed: Any = resized.model.patch_embed
            before = tuple(embed.grid_size)
            embed.set_input_size(img_size=(size_px, size_px))
            moved = resize_position_embedding(
                positions.data, before, tuple(embed.grid_size), self.position_resize
            )
            resized.model.pos_embed = nn.Parameter(moved)
        return resized


def load(path: Path, position_resize: PositionResize = "aligned") -> NpzBackbone:
    """Return the backbone of a .npz checkpoint, in eval mode.

    Raises:
        DataMissingError: the file does not exist.
        UsageError: it is not a ViT, hybrid or BiT checkpoint.
    """
    return NpzBackbone(read_npz(path), path.name, position_resize).eval()


def _dense(arrays: Arrays, name: str) -> nn.Linear | None:
    if f"{name}/kernel" not in arrays:
        return None
    kernel = torch.from_numpy(arrays[f"{name}/kernel"]).reshape(-1, arrays[f"{name}/kernel"].shape[-1])
    dense = nn.Linear(*kernel.shape)
    dense.load_state_dict({"weight": kernel.T, "bias": torch.from_numpy(arrays[f"{name}/bias"])})
    return dense


def _head(arrays: Arrays) -> nn.Linear | None:
    return _dense(arrays, "head") or _dense(arrays, "resnet/head/conv2d")
