"""timm's models behind vitbench's contract: features are the pre-logits, the input is what the checkpoint was trained with."""

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
from vitbench.backbones.catalog import facts_of, trained_on
from vitbench.backbones.models.positions import PositionResize, check_patches, resize_position_embedding
from vitbench.backbones.models.weights import load_into, read_checkpoint
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.seeding import seeded

# What the tokens of timm's weight tags stand for (facts/protocols.md 7.2).
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
        """Choose what of a transformer's tokens are the features.

        Raises:
            UsageError: the model has no class token, or not as many blocks.
        """
        if (pooling, last_layers) == ("own", 1):
            return
        blocks = len(getattr(self.model, "blocks", ()))
        if not getattr(self.model, "num_prefix_tokens", 0) or not hasattr(
            self.model, "forward_intermediates"
        ):
            raise UsageError(f"timm:{self.name} has no class token: its features are its own pooling only")
        if last_layers > blocks:
            raise UsageError(f"timm:{self.name} has {blocks} blocks, last_layers asks for {last_layers}")
        self.pooling, self.last_layers = pooling, last_layers
        own = int(self.model.num_features)  # type: ignore[arg-type]
        self.feature_dim = own * (last_layers * (pooling != "patch_mean") + ("patch_mean" in pooling))

    def features(self, images: Tensor) -> Tensor:
        """The pre-logits (B, D), or the tokens that were chosen."""
        if (self.pooling, self.last_layers) != ("own", 1):
            return self._tokens(images)
        tokens = self.model.forward_features(images)  # type: ignore[operator]
        return cast("Tensor", self.model.forward_head(tokens, pre_logits=True))  # type: ignore[operator]

    def _tokens(self, images: Tensor) -> Tensor:
        """Normalised class tokens of the last blocks, then the mean of the last block's patches (DN:dinov2/eval/linear.py)."""
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
        """The same weights for another side; a ViT's position embeddings are resized.

        Raises:
            UsageError: patches do not fill the image.
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
        """With another mean and std; a warning on the row if timm's own weights were trained with theirs."""
        chosen = InputSpec(self.input.size_px, mean or self.input.mean, std or self.input.std)
        if chosen != self.input and self.provenance.source.startswith("timm:"):
            own = f"mean {self.input.mean}, std {self.input.std}"
            warning = f"pixels are normalised by mean {chosen.mean}, std {chosen.std}; the weights were trained with {own}"
            self.provenance = replace(self.provenance, pixel_warning=warning)
        self.input = chosen
        return self

    @classmethod
    def pretrained(cls, name: str, extra: dict[str, Any]) -> TimmBackbone:
        """With the weights that timm names.

        Raises:
            DataMissingError: they are not in the cache and cannot be fetched.
        """
        try:
            model = _create(name, pretrained=True, **extra)
        except UsageError:
            raise
        except Exception as error:  # each hub's client raises its own kinds when it cannot be reached
            raise DataMissingError(
                Problem(
                    f"the weights of timm:{name} cannot be loaded: {_one_line(error)}",
                    next_step="go online once, or give `checkpoint: FILE`, or `pretrained: false`",
                )
            ) from error
        config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
        tag = str(config.get("tag") or "")
        architecture = name.partition(".")[0]
        known = facts_of(f"timm:{architecture}.{tag}")
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
        """With weights from a local file.

        Raises:
            UsageError: a weight of the backbone is missing, or has another shape, or the file needs pickle.
        """
        model = _create(name, pretrained=False, **extra)
        count = load_into(model, read_checkpoint(checkpoint), f"{checkpoint} for timm:{name}")
        provenance = Provenance(
            _family(name), "pretrained", "unknown", checkpoint.name, count.loaded, count.missing, count.unexpected
        )  # fmt: skip
        return cls(model, name, _native_px(model), extra, provenance)

    @classmethod
    def untrained(cls, name: str, size_px: int | None, extra: dict[str, Any], init_seed: int) -> TimmBackbone:
        """With seeded initial weights, built for `size_px` at once."""
        with seeded(init_seed, "initial weights"):
            model = _create(name, pretrained=False, **extra)
            if size_px is not None and getattr(model, "patch_embed", None) is not None:
                model = _create(name, pretrained=False, img_size=size_px, **extra)
        provenance = Provenance(_family(name), "untrained", "none", f"initial weights, seed {init_seed}")
        return cls(model, name, size_px or _native_px(model), extra, provenance)


def _create(name: str, **options: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # timm warns of renamed models; `vitbench list` shows what a name is
            model = timm.create_model(name, num_classes=0, **options)
    except TypeError as error:
        raise UsageError(f"timm:{name} does not take {sorted(options)}: {_one_line(error)}") from error
    return model


def _native_px(model: nn.Module) -> int:
    patch_embed = getattr(model, "patch_embed", None)
    own = getattr(patch_embed, "img_size", None)
    return int(own[0] if own else resolve_data_config({}, model=model)["input_size"][-1])


def _vit_at(
    model: nn.Module, name: str, size_px: int, extra: dict[str, Any], how: PositionResize
) -> nn.Module:
    """A copy of a ViT for another side."""
    resized = _create(name, pretrained=False, img_size=size_px, **extra)
    state = model.state_dict()
    wanted = resized.state_dict()
    for key, value in state.items():
        if wanted[key].shape != value.shape:
            if key != "pos_embed" or value.ndim != 3:
                raise UsageError(f"timm:{name} cannot be resized to {size_px} px: {key} has no grid")
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
