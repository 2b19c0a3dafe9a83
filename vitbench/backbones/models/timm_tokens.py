"""The tokens of timm's networks: those of the last blocks after the final norm, or a final feature map, place by place."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from vitbench.core.errors import Problem, UsageError
from vitbench.core.tokens import NoTokensError, Tokens, split


def last_blocks(model: nn.Module, images: Tensor, count: int, name: str) -> tuple[Tokens, ...]:
    """The tokens of the last `count` blocks of images (B, 3, S, S), each after the network's final norm, first block first.

    Equal to timm's `forward_features` for one block, and to its `forward_intermediates` with `norm=True` for several; there, a
    norm that stands behind pooling (`fc_norm`) is applied to every token, as it is the only one that the weights have. A
    convolutional network's tokens are the places of its final feature map, row by row.

    Raises:
        UsageError: the network has fewer blocks, or none that share a width.
    """
    found = _final(model, images, name) if count == 1 else _several(model, images, count, name)
    last_norm: Any = getattr(model, "fc_norm", None) or nn.Identity()
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    has_class_token = prefix > 0 and _has_class_token(model)
    return tuple(split(last_norm(tokens), prefix, has_class_token=has_class_token) for tokens in found)


def _final(model: Any, images: Tensor, name: str) -> list[Tensor]:
    """What `forward_features` gives, as tokens (B, T, D)."""
    found: Any = model.forward_features(images)
    if isinstance(found, Tensor) and found.ndim == 4:  # a feature map
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        found = found.flatten(1, 2) if channels_last else found.flatten(2).mT
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[2] != model.num_features:
        raise NoTokensError(
            Problem(
                f"{name}: its last layer's output is not a row of tokens, nor a feature map",
                next_step="use `inputs: features`, the input of its own classifier",
            )
        )
    return [found]


def _several(model: Any, images: Tensor, count: int, name: str) -> list[Tensor]:
    """Normalised tokens (B, P + T, D) of the last blocks, the prefix tokens in front."""
    import torch

    depth = len(getattr(model, "blocks", ()))
    forward = getattr(model, "forward_intermediates", None)
    if forward is None or "return_prefix_tokens" not in inspect.signature(forward).parameters or not depth:
        raise NoTokensError(
            Problem(
                f"{name} has no row of blocks whose outputs share a width, as plain vision transformers have",
                next_step="use the last block alone: `inputs: class`, `mean` or `features`",
            )
        )
    if count > depth:
        raise UsageError(f"{name} has {depth} blocks, fewer than the {count} that are asked for")
    found = forward(
        images, indices=count, norm=True, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    if not getattr(model, "num_prefix_tokens", 0):
        return list(found)
    return [torch.cat((prefix, patches), dim=1) for patches, prefix in found]


def _has_class_token(model: Any) -> bool:
    holders = (model, getattr(model, "embeds", None))  # NaFlexViT's are in a module of their own
    return any(getattr(holder, "cls_token", None) is not None for holder in holders)
