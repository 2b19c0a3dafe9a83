"""Wrapper of timm models: features are the pre-logits; image size, mean and std come from timm's pre-trained configuration."""

from __future__ import annotations

import copy
import inspect
import itertools
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from vitbench.api import EvaluationTransform, InputSpec, Triple
from vitbench.backbones.models.positions import PositionResize, check_patches, resize_position_embedding
from vitbench.backbones.models.timm_classifier import own_classifier
from vitbench.backbones.models.timm_create import TimmModel, accepts_size, create_unfilled, puts_norm_in_head
from vitbench.backbones.models.timm_tokens import last_blocks
from vitbench.backbones.models.weights import fill
from vitbench.core.errors import Problem, UsageError
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.tokens import Tokens

Pooling = Literal["own", "class_token", "patch_mean", "class_token+patch_mean"]


class TimmBackbone(nn.Module):
    """A timm model without its classifier."""

    def __init__(self, built: TimmModel, size_px: int | None = None) -> None:
        super().__init__()
        model: Any = built.model
        size_px = size_px or _native_px(model)
        check_patches(model, size_px, f"timm:{built.name}")
        self.config: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
        config = resolve_data_config({}, pretrained_cfg=self.config, model=model)
        self.model = model
        self.built = replace(built, model=nn.Identity())
        self.name = built.name
        self.extra = built.extra
        self.input = InputSpec(size_px, _triple(config["mean"]), _triple(config["std"]))
        self.whole = puts_norm_in_head(built.name)
        if "pre_logits" not in inspect.signature(model.forward_head).parameters:
            raise UsageError(
                f"timm:{built.name} is an encoder without pre-logits: choose a model with a classifier"
            )
        self.feature_dim = int(getattr(model, "head_hidden_size", None) or model.num_features)
        self.provenance = built.provenance
        self.position_resize: PositionResize = own_resize(built.name)
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
        own = int(self.model.num_features)
        self.feature_dim = own * (last_layers * (pooling != "patch_mean") + ("patch_mean" in pooling))

    @property
    def evaluation(self) -> EvaluationTransform | None:
        """What timm's configuration of the weights says; at its test size what it says of that.

        None if it asks for neither bilinear nor bicubic interpolation.
        """
        own, test = (tuple(self.config.get(name) or ()) for name in ("input_size", "test_input_size"))
        is_test = self.input.size_px in test[1:] and self.input.size_px not in own[1:]
        config = resolve_data_config({}, pretrained_cfg=self.config, model=self.model, use_test_size=is_test)
        if config["interpolation"] not in ("bilinear", "bicubic"):
            return None
        mode: Any = config["crop_mode"] if config["crop_mode"] in ("squash", "border") else "center"
        return EvaluationTransform(
            float(config["crop_pct"]), config["interpolation"], mode, border=self.input.mean
        )

    def classifier(self) -> OwnClassifier:
        """The classifier that came with the weights.

        Raises:
            UsageError: they have none, or it is not put on these features.
        """
        if (self.pooling, self.last_layers) != ("own", 1):
            raise UsageError(
                f"own_head: timm:{self.name}: its classifier is put on `pooling: own` and one layer"
            )
        return own_classifier(self.built, self.feature_dim, self.config)

    def features(self, images: Tensor) -> Tensor:
        """The pre-logits, or the chosen tokens, (B, D) of images (B, 3, S, S)."""
        try:
            if (self.pooling, self.last_layers) != ("own", 1):
                return self._tokens(images)
            if self.whole:
                return cast("Tensor", self.model(images))
            tokens = self.model.forward_features(images)
            return cast("Tensor", self.model.forward_head(tokens, pre_logits=True))
        except AssertionError as error:  # how timm's architectures refuse an image size
            raise self._refused(images.shape[-1], error) from error
        except NotImplementedError as error:
            raise UsageError(f"timm:{self.name} is an encoder without pre-logits: {error}") from error

    def last_blocks(self, images: Tensor, count: int) -> tuple[Tokens, ...]:
        """The tokens of the last `count` blocks, after the final norm: see `timm_tokens`."""
        try:
            return last_blocks(self.model, images, count, f"timm:{self.name}")
        except AssertionError as error:  # how timm's architectures refuse an image size
            raise self._refused(images.shape[-1], error) from error

    def _refused(self, size_px: int, error: BaseException) -> UsageError:
        because = f": {error}" if f"{error}" else ""
        step = f"leave out `size_px`, or choose another; its own is {self.input.size_px} px"
        return UsageError(Problem(f"timm:{self.name} does not work at {size_px} px{because}", next_step=step))

    def _tokens(self, images: Tensor) -> Tensor:
        """Normalised class tokens of the last blocks, then the mean patch token of the last (DN:dinov2/eval/linear.py).

        Where the head is put on normalised means (`fc_norm`), as in BEiT and fine-tuned MAE, that norm is the model's last.
        """
        found = self.model.forward_intermediates(
            images,
            indices=self.last_layers,
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        last_norm: Any = getattr(self.model, "fc_norm", None) or nn.Identity()
        parts = [last_norm(prefix[:, 0]) for _, prefix in found] if self.pooling != "patch_mean" else []
        if "patch_mean" in self.pooling:
            parts.append(last_norm(found[-1][0].mean(1)))
        return torch.cat(parts, dim=1)

    def at_resolution(self, size_px: int) -> TimmBackbone:
        """The same weights at another image size; a ViT's position embeddings are resized.

        Raises:
            UsageError: the image size is not a multiple of the patch size, or the architecture cannot be resized.
        """
        if size_px == self.input.size_px:
            return self
        check_patches(self.model, size_px, f"timm:{self.name}")
        model = self._model_at(size_px)
        if model is self.model:
            resized = copy.copy(self)
            resized.input = InputSpec(size_px, self.input.mean, self.input.std)
            return resized
        resized = TimmBackbone(TimmModel(model, self.name, self.provenance, self.extra), size_px)
        resized.input = InputSpec(size_px, self.input.mean, self.input.std)
        resized.config = self.config
        resized.position_resize = self.position_resize
        resized.pool(self.pooling, self.last_layers)
        return resized

    def _model_at(self, size_px: int) -> nn.Module:
        """The model for another image size: itself where it takes any, as most convolutional ones do.

        Raises:
            UsageError: the architecture works at its own image size only.
        """
        has_patches = getattr(self.model, "patch_embed", None) is not None
        if has_patches and accepts_size(self.name, self.input.size_px, self.extra):
            try:
                return _vit_at(self.model, self.name, size_px, self.extra, self.position_resize)
            except (
                AssertionError,
                AttributeError,
                ValueError,
            ) as error:  # how timm's architectures refuse a size
                raise self._refused(size_px, error) from error
        own, other = (_meta_error(self.model, size) for size in (self.input.size_px, size_px))
        if other is not None and own is None:
            raise self._refused(size_px, other) from other
        return cast("nn.Module", self.model)

    def normalising(self, mean: Triple | None, std: Triple | None) -> TimmBackbone:
        """Set mean and std (None: unchanged) and return self; a change from timm's weights is recorded as a pixel warning."""
        chosen = InputSpec(self.input.size_px, mean or self.input.mean, std or self.input.std)
        if chosen != self.input and self.provenance.source.startswith("timm:"):
            own = f"mean {self.input.mean}, std {self.input.std}"
            warning = f"pixels are normalised by mean {chosen.mean}, std {chosen.std}; the weights were trained with {own}"
            self.provenance = replace(self.provenance, pixel_warning=warning)
        if mean and std:
            self.provenance = replace(self.provenance, pixels_unknown="")
        self.input = chosen
        return self


def _native_px(model: nn.Module) -> int:
    patch_embed = getattr(model, "patch_embed", None)
    own = getattr(patch_embed, "img_size", None)
    return int(own[0] if own else resolve_data_config({}, model=model)["input_size"][-1])


def _vit_at(
    model: nn.Module, name: str, size_px: int, extra: dict[str, Any], how: PositionResize
) -> nn.Module:
    """Return a copy of a ViT for another image size."""
    resized = create_unfilled(name, img_size=size_px, **extra)
    state = model.state_dict()
    wanted = resized.state_dict()
    for key, value in state.items():
        if wanted[key].shape != value.shape:
            if key != "pos_embed" or value.ndim != 3:
                raise UsageError(
                    f"timm:{name} cannot be resized to {size_px} px: {key} depends on the image size"
                )
            state[key] = resize_position_embedding(value, _grid(model), _grid(resized), how)
    fill(resized, state)
    return resized.train(model.training)


def _meta_error(model: nn.Module, size_px: int) -> Exception | None:
    """What stops a forward pass at an image size, found without arithmetic; None if nothing does."""
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            torch.func.functional_call(model, weights, (torch.empty(1, 3, size_px, size_px, device="meta"),))
    except Exception as error:  # noqa: BLE001  each architecture raises its own
        return error
    finally:
        model.train(training)
    return None


def _grid(model: nn.Module) -> tuple[int, int]:
    height, width = model.patch_embed.grid_size  # type: ignore[union-attr,misc]
    return int(height), int(width)


def own_resize(name: str) -> PositionResize:
    """How the authors of the weights resize position embeddings (docs/protocols.md#position-embeddings)."""
    architecture, _, tag = name.partition(".")
    if "dinov2" in architecture:
        return "timm" if "reg" in architecture else "dinov2"
    google = not tag or tag.startswith(("orig_", "augreg", "sam_"))
    plain = architecture.startswith("vit_") and not any(
        word in architecture for word in ("clip", "siglip", "dinov3")
    )
    return "aligned" if google and plain else "timm"


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
