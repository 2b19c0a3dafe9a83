"""Build a backbone from one of Google's .npz checkpoints; array names and shapes determine the architecture.

The references put a probe on the output of the tanh layer `pre_logits`, and drop that layer before they fine-tune (ViT paper,
App. B.1.1; VJ:vit_jax/checkpoint.py:181-188). The classifier is no part of the backbone.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.linear_head import classifier_of, no_classifier
from vitbench.backbones.models.npz_bit import build_bit
from vitbench.backbones.models.npz_names import Arrays, read_npz
from vitbench.backbones.models.npz_vit import build_vit
from vitbench.backbones.models.positions import PositionResize, check_patches, resize_position_embedding
from vitbench.backbones.models.timm_tokens import last_blocks
from vitbench.backbones.models.weights import shortened
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.record import LoadReport
from vitbench.core.tokens import Tokens

PRE_LOGITS = (
    "features are the output of the tanh layer pre_logits; fine-tuning drops it, as the references do"
)
_HEADS = ("head/", "resnet/head/")
_STATES = ("opt/", "opt_state/", "state/", "step")  # of optimisers, in dumps of training
HALF = (0.5, 0.5, 0.5)  # ViT and BiT take pixels in [-1, 1] (docs/protocols.md#preprocessing-presets)


class NpzBackbone(nn.Module):
    """A ViT, hybrid or BiT of a .npz checkpoint; features are the pre-logits, after the hidden tanh layer if there is one."""

    def __init__(self, arrays: Arrays, source: str, position_resize: PositionResize = "aligned") -> None:
        super().__init__()
        is_bit = any(name.startswith("resnet/") for name in arrays)
        built: tuple[Any, int] = (build_bit if is_bit else build_vit)(arrays, source)
        self.model: nn.Module = built[0]
        self.pre_logits = _dense(arrays, "pre_logits")
        self._classifier = (_head(arrays),)  # in a tuple: not among the backbone's weights
        self.position_resize: PositionResize = position_resize
        self.input = InputSpec(built[1], HALF, HALF)
        self.feature_dim = _width(self.pre_logits) or int(built[0].num_features)
        family = "BiT" if is_bit else "Hybrid" if "conv_root/kernel" in arrays else "ViT"
        notes = (PRE_LOGITS,) if self.pre_logits is not None else ()
        self.provenance = Provenance(family, "pretrained", "unknown", source, _report(arrays), notes=notes)

    def features(self, images: Tensor) -> Tensor:
        """The pre-logits (B, D) of images (B, 3, S, S)."""
        tokens = self.model.forward_features(images)  # type: ignore[operator]
        pooled = cast("Tensor", self.model.forward_head(tokens, pre_logits=True))  # type: ignore[operator]
        return pooled if self.pre_logits is None else torch.tanh(self.pre_logits(pooled))

    def last_blocks(self, images: Tensor, count: int) -> tuple[Tokens, ...]:
        """The tokens of the last `count` blocks after the final norm, before `pre_logits`: see `timm_tokens`."""
        return last_blocks(self.model, images, count, self.provenance.source)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the classifier in the checkpoint, for images (B, 3, S, S).

        Raises:
            ValueError: the checkpoint has no classifier.
        """
        features, (classifier,) = self.features(images), self._classifier
        if classifier is None:
            raise ValueError(f"{self.provenance.source} has no classifier")
        return cast("Tensor", classifier.to(features.device)(features))

    def classifier(self) -> OwnClassifier:
        """The classifier in the checkpoint; what its classes are, the file does not say.

        Raises:
            UsageError: there is none.
        """
        source, (own,) = self.provenance.source, self._classifier
        if own is None:
            raise no_classifier(source, "the file has no classifier")
        return classifier_of(own.weight, own.bias, None, source)

    def trainable(self) -> NpzBackbone:
        """The network without `pre_logits`, sharing all other weights: what the references fine-tune."""
        if self.pre_logits is None:
            return self
        bare = copy.copy(self)
        bare._modules = {**self._modules, "pre_logits": None}
        bare.feature_dim = int(self.model.num_features)  # type: ignore[arg-type]
        return bare

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


def _width(dense: nn.Linear | None) -> int | None:
    return None if dense is None else dense.out_features


def _report(arrays: Arrays) -> LoadReport:
    """What became of the arrays: those that were read are used, but for the classifier's."""
    heads = [name for name in arrays if name.startswith(_HEADS)]
    states = [name for name in arrays.elsewhere if name.startswith(_STATES)]
    rest = [name for name in arrays if name not in arrays.read and name not in heads]
    return LoadReport(
        in_file=len(arrays) + len(arrays.elsewhere),
        used=len(arrays.read - set(heads)),
        left_out=shortened([*heads, *states]),
        unused=shortened([*rest, *(name for name in arrays.elsewhere if name not in states)]),
    )


def _dense(arrays: Arrays, name: str) -> nn.Linear | None:
    if f"{name}/kernel" not in arrays:
        return None
    kernel = torch.from_numpy(arrays[f"{name}/kernel"]).reshape(-1, arrays[f"{name}/kernel"].shape[-1])
    dense = nn.Linear(*kernel.shape)
    dense.load_state_dict({"weight": kernel.T, "bias": torch.from_numpy(arrays[f"{name}/bias"])})
    return dense


def _head(arrays: Arrays) -> nn.Linear | None:
    return _dense(arrays, "head") or _dense(arrays, "resnet/head/conv2d")
