"""Wrapper of timm models: features are the pre-logits; image size, mean and std come from timm's pre-trained configuration."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance, Triple
from vitbench.backbones.catalog import entry_of, trained_on
from vitbench.backbones.models.positions import PositionResize, check_patches, resize_position_embedding
from vitbench.backbones.models.weights import load_into, read_checkpoint
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.seeding import seeded

# Pre-training data by token of timm's weight tags (docs/protocols.md#model-names).
_DATA_TOKENS = {
    "in21k": "ImageNet-21k", "in22k": "ImageNet-22k", "in12k": "ImageNet-12k", "in1k": "ImageNet-1k",
    "jft": "JFT-300M", "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M", "laion2b": "LAION-2B",
    "openai": "WIT-400M", "webli": "WebLI", "lvd": "LVD",
}  # fmt: skip
_FAMILIES = (
    ("vit_base_r50", "Hybrid"), ("vit_large_r50", "Hybrid"), ("vit_small_r26", "Hybrid"), ("vit_tiny_r_", "Hybrid"),
    ("vit_", "ViT"), ("deit", "DeiT"), ("swin", "Swin"), ("tf_efficientnet", "EfficientNet"),
    ("efficientnet", "EfficientNet"), ("convnext", "ConvNeXt"), ("mixer", "Mixer"),
)  # fmt: skip


Pooling = Literal["own", "class_token", "patch_mean", "class_token+patch_mean"]


class TimmBackbone(nn.Module):
    """A timm model without its classifier."""

    def __init__(
        self,
        model: nn.Module,
        name: str,
        size_px: int,
        extra: dict[str, Any],
        provenance: Provenance,
    ) -> None:
        super().__init__()
        check_patches(model, size_px, f"timm:{name}")
        config = resolve_data_config({}, model=model)
        self.model = model
        self.name = name
        self.extra = extra
        self.input = InputSpec(size_px, _triple(config["mean"]), _triple(config["std"]))
        self.feature_dim = int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]
        self.provenance = provenance
        self.position_resize: PositionResize = "aligned"
        self.pooling: Pooling = "own"
        self.last_layers = 1

    def pool(self, pooling: Pooling, last_layers: int) -> None:
        """Choose the tokens of a transformer that form its features.

        Raises:
            UsageError: the model has no class token, or fewer blocks than `last_layers`.
        """
        if (pooling, last_layers) == ("own", 1):
            return
        blocks = len(getattr(self.model, "blocks", ()))
        if not getattr(self.model, "num_prefix_tokens", 0) or not hasattr(
            self.model, "forward_intermediates"
        ):
            raise UsageError(
                f"timm:{self.name} has no class token: it supports `pooling: own` and `last_layers: 1` only"
            )
        if last_layers > blocks:
            raise UsageError(f"timm:{self.name} has {blocks} blocks, fewer than last_layers {last_layers}")
        self.pooling, self.last_layers = pooling, last_layers
        own = int(self.model.num_features)  # type: ignore[arg-type]
        self.feature_dim = own * (last_layers * (pooling != "patch_mean") + ("patch_mean" in pooling))

    def features(self, images: Tensor) -> Tensor:
        """The pre-logits, or the chosen tokens, (B, D) of images (B, 3, S, S)."""
        if (self.pooling, self.last_layers) != ("own", 1):
            return self._tokens(images)
        tokens = self.model.forward_features(images)  # type: ignore[operator]
        return cast("Tensor", self.model.forward_head(tokens, pre_logits=True))  # type: ignore[operator]

    def _tokens(self, images: Tensor) -> Tensor:
        """Normalised class tokens of the last blocks, then the mean patch token of the last (DN:dinov2/eval/linear.py)."""
        found = self.model.forward_intermediates(  # type: ignore[operator]
            images,
            indices=self.last_layers,
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        parts = [prefix[:, 0] for _, prefix in found] if self.pooling != "patch_mean" else []
        if "patch_mean" in self.pooling:
            parts.append(found[-1][0].mean(1))
        return torch.cat(parts, dim=1)

    def at_resolution(self, size_px: int) -> TimmBackbone:
        """The same weights at another image size; a ViT's position embeddings are resized.

        Raises:
            UsageError: the image size is not a multiple of the patch size, or the architecture cannot be resized.
        """
        if size_px == self.input.size_px:
            return self
        check_patches(self.model, size_px, f"timm:{self.name}")
        if getattr(self.model, "patch_embed", None) is None:
            resized = copy.copy(self)
            resized.input = InputSpec(size_px, self.input.mean, self.input.std)
            return resized
        resized = TimmBackbone(
            _vit_at(self.model, self.name, size_px, self.extra, self.position_resize),
            self.name, size_px, self.extra, self.provenance,
        )  # fmt: skip
        resized.input = InputSpec(size_px, self.input.mean, self.input.std)
        resized.position_resize = self.position_resize
        resized.pool(self.pooling, self.last_layers)
        return resized

    def normalising(self, mean: Triple | None, std: Triple | None) -> TimmBackbone:
        """Set mean and std (None: unchanged) and return self; a change from timm's weights is recorded as a pixel warning."""
        chosen = InputSpec(self.input.size_px, mean or self.input.mean, std or self.input.std)
        if chosen != self.input and self.provenance.source.startswith("timm:"):
            own = f"mean {self.input.mean}, std {self.input.std}"
            warning = f"pixels are normalised by mean {chosen.mean}, std {chosen.std}; the weights were trained with {own}"
            self.provenance = replace(self.provenance, pixel_warning=warning)
        self.input = chosen
        return self

    @classmethod
    def pretrained(cls, name: str, extra: dict[str, Any]) -> TimmBackbone:
        """Build a model with timm's pre-trained weights.

        Raises:
            UsageError: the model does not take the options in `extra`.
            DataMissingError: the weights are not in the cache and cannot be downloaded.
        """
        try:
            model = _create(name, pretrained=True, **extra)
        except UsageError:
            raise
        except Exception as error:  # each download client raises its own exceptions
            raise DataMissingError(
                Problem(
                    f"the weights of timm:{name} cannot be loaded: {_one_line(error)}",
                    next_step="connect to the internet once to download them, or set `checkpoint: FILE` or `pretrained: false`",
                )
            ) from error
        config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
        tag = str(config.get("tag") or "")
        architecture = name.partition(".")[0]
        known = entry_of(f"timm:{architecture}.{tag}")
        provenance = Provenance(
            _family(name),
            "pretrained",
            known.data if known else _pretrain_data(tag),
            f"timm:{architecture}.{tag}",
            trained_on=known.trained_on if known else trained_on(tag),
            pretrain_tpu_v3_core_days=known.tpu_v3_core_days if known else None,
            licence=known.licence if known else str(config.get("license") or ""),
        )
        return cls(model, name, _native_px(model), extra, provenance)

    @classmethod
    def from_file(cls, name: str, checkpoint: Path, extra: dict[str, Any]) -> TimmBackbone:
        """Build a model with the weights of a local checkpoint.

        Raises:
            UsageError: a weight is missing or has another shape, or the checkpoint cannot be read without unpickling.
        """
        model = _create(name, pretrained=False, **extra)
        count = load_into(model, read_checkpoint(checkpoint), f"{checkpoint} for timm:{name}")
        provenance = Provenance(
            _family(name), "pretrained", "unknown", checkpoint.name, count.loaded, count.missing, count.unexpected
        )  # fmt: skip
        return cls(model, name, _native_px(model), extra, provenance)

    @classmethod
    def untrained(cls, name: str, size_px: int | None, extra: dict[str, Any], init_seed: int) -> TimmBackbone:
        """Build a randomly initialised model, directly for image size `size_px` if given."""
        with seeded(init_seed, "initial weights"):
            model = _create(name, pretrained=False, **extra)
            if size_px is not None and getattr(model, "patch_embed", None) is not None:
                model = _create(name, pretrained=False, img_size=size_px, **extra)
        provenance = Provenance(_family(name), "untrained", "none", f"initial weights, seed {init_seed}")
        return cls(model, name, size_px or _native_px(model), extra, provenance)


def _create(name: str, **options: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # timm warns about renamed models; `vitbench list` shows them instead
            warnings.simplefilter("ignore")
            model = timm.create_model(name, num_classes=0, **options)
    except TypeError as error:
        raise UsageError(
            f"timm:{name} does not accept {', '.join(sorted(options))}: {_one_line(error)}"
        ) from error
    return model


def _native_px(model: nn.Module) -> int:
    patch_embed = getattr(model, "patch_embed", None)
    own = getattr(patch_embed, "img_size", None)
    return int(own[0] if own else resolve_data_config({}, model=model)["input_size"][-1])


def _vit_at(
    model: nn.Module, name: str, size_px: int, extra: dict[str, Any], how: PositionResize
) -> nn.Module:
    """Return a copy of a ViT for another image size."""
    resized = _create(name, pretrained=False, img_size=size_px, **extra)
    state = model.state_dict()
    wanted = resized.state_dict()
    for key, value in state.items():
        if wanted[key].shape != value.shape:
            if key != "pos_embed" or value.ndim != 3:
                raise UsageError(
                    f"timm:{name} cannot be resized to {size_px} px: {key} depends on the image size"
                )
            state[key] = resize_position_embedding(value, _grid(model), _grid(resized), how)
    resized.load_state_dict(state)
    return resized.train(model.training)


def _grid(model: nn.Module) -> tuple[int, int]:
    height, width = model.patch_embed.grid_size  # type: ignore[union-attr,misc]
    return int(height), int(width)


def _family(name: str) -> str:
    if "resnetv2" in name and "_bit" in name:
        return "BiT"
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), name.split("_")[0])


def _pretrain_data(tag: str) -> str:
    before_fine_tuning = tag.split("_ft_")[0]
    found = [data for token, data in _DATA_TOKENS.items() if token in before_fine_tuning]
    return found[0] if found else "unknown"


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
