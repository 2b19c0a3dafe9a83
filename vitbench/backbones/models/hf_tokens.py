"""The tokens of transformers' vision models: those of the last blocks after the final norm, or a final feature map."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vitbench.core.errors import Problem, UsageError
from vitbench.core.tokens import NoTokensError, Tokens, split

NORMS = ("layernorm", "post_layernorm", "norm")  # names of a model's final norm: ViT and DINOv2, CLIP, DINOv3
MOST_PREFIX_TOKENS = 16  # class, distillation and register tokens: DINOv2's models have at most 1 + 4


def last_blocks(
    model: Any, images: Tensor, count: int, arguments: dict[str, Any], name: str
) -> tuple[Tokens, ...]:
    """The tokens of the last `count` blocks of images (B, 3, S, S), each after the model's final norm, first block first.

    The last block's are `last_hidden_state`, normalised where the model itself does not (CLIP). A convolutional model's tokens
    are the places of its final feature map, row by row.

    Raises:
        UsageError: the model has fewer blocks or no final norm to apply, or its patch tokens cannot be told from others.
    """
    norm = next((getattr(model, each) for each in NORMS if hasattr(model, each)), None)
    seen: list[Tensor] = []
    hook = (
        norm.register_forward_hook(lambda _m, _i, output: seen.append(output)) if norm is not None else None
    )
    try:
        output = model(pixel_values=images, output_hidden_states=count > 1, **arguments)
    finally:
        if hook is not None:
            hook.remove()
    last: Tensor = output.last_hidden_state
    if last.ndim == 4:  # convolutional: (B, D, h, w)
        last = last.flatten(2).mT
    elif norm is not None and not any(each.shape == last.shape and torch.equal(each, last) for each in seen):
        last = norm(last)
    earlier = _earlier(output, count, norm, name) if count > 1 else []
    prefix = _prefix(model, images.shape[-1], last.shape[1], name)
    registers = int(getattr(model.config, "num_register_tokens", 0) or 0)
    return tuple(split(tokens, prefix, has_class_token=prefix > registers) for tokens in (*earlier, last))


def _earlier(output: Any, count: int, norm: Any, name: str) -> list[Tensor]:
    """The normalised tokens of the last blocks but the very last."""
    states = output.hidden_states
    if states is None or norm is None or len({state.shape for state in states}) > 1:
        raise NoTokensError(
            Problem(
                f"{name} has no row of blocks whose outputs share a width and a final norm",
                next_step="use the last block alone: `inputs: class`, `mean` or `features`",
            )
        )
    if count > len(states) - 1:  # the first are the embeddings
        raise UsageError(f"{name} has {len(states) - 1} blocks, fewer than the {count} that are asked for")
    return [norm(state) for state in states[-count:-1]]


def _prefix(model: Any, size_px: int, tokens: int, name: str) -> int:
    known = prefix_tokens(model, size_px, tokens)
    if known is None and math.isqrt(tokens) ** 2 != tokens:
        raise NoTokensError(
            f"{name}: its patch tokens cannot be told from others; use `inputs: features`, its classifier's input"
        )
    return known or 0


def prefix_tokens(model: Any, size_px: int, tokens: int) -> int | None:
    """The number of class, distillation and register tokens before the patch tokens; None if it cannot be known."""
    patch = getattr(model.config, "patch_size", None)
    if not isinstance(patch, int):
        return None
    prefix = tokens - (size_px // patch) ** 2
    return prefix if 0 <= prefix <= MOST_PREFIX_TOKENS else None
