"""Visual prompt tuning: learnt tokens among those of the image, in front of the first block or of each (arXiv 2203.12119).

Prompts stand behind the class token (and others that are no patches). They are taken away behind the last block, so that the
network pools over what it pooled over before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.core.errors import UsageError
from vitbench.protocols.finetune.blocks import blocks_of
from vitbench.protocols.recipe import Recipe

NAME = "vitbench_prompts"
CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


class Prompts(nn.Module):
    """Tokens (L, P, D), for the first block or for each of L, and how they enter and leave a row of blocks."""

    def __init__(self, layers: int, recipe: Recipe, width: int, patch_px: int, prefix: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(layers, recipe.prompt_tokens, width))
        bound = math.sqrt(6 / (3 * patch_px**2 + width))  # VPT:src/models/vit_prompt/vit.py
        nn.init.uniform_(self.tokens, -bound, bound)
        self.dropout = nn.Dropout(recipe.tune_dropout)
        self.prefix = prefix

    def enter(self, _block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the first prompts among the tokens (B, N, D)."""
        x, *others = inputs
        return (self._joined(x, x[:, self.prefix :], 0), *others)

    def replace(self, index: int, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put a block's own prompts in the place of those before it."""
        x, *others = inputs
        behind = x[:, self.prefix + self.tokens.shape[1] :]
        return (self._joined(x, behind, index), *others)

    def leave(self, _block: nn.Module, _inputs: tuple[Any, ...], outputs: Any) -> Any:
        """Take the prompts away."""
        x = outputs[0] if isinstance(outputs, tuple) else outputs
        kept = torch.cat([x[:, : self.prefix], x[:, self.prefix + self.tokens.shape[1] :]], 1)
        return (kept, *outputs[1:]) if isinstance(outputs, tuple) else kept

    def _joined(self, x: Tensor, behind: Tensor, index: int) -> Tensor:
        tokens = self.dropout(self.tokens[index].expand(len(x), -1, -1)).to(x.dtype)
        return torch.cat([x[:, : self.prefix], tokens, behind], 1)


class _Replace:
    """A hook of one block; a plain function would keep the prompts of the network that a copy was made from."""

    def __init__(self, prompts: Prompts, index: int) -> None:
        self.prompts, self.index = prompts, index

    def __call__(self, _block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.prompts.replace(self.index, inputs)


def add(backbone: nn.Module, recipe: Recipe) -> None:
    """Add prompts to a plain vision transformer, `vpt-shallow` or `vpt-deep`.

    Raises:
        UsageError: the network is none: its blocks do not all take the same tokens (B, N, D).
    """
    name, blocks = blocks_of(backbone)
    owner = backbone.get_submodule(name.rpartition(".")[0])
    width = _token_width(backbone, blocks)
    prefix = getattr(owner, "num_prefix_tokens", None)
    if prefix is None:
        names = {path.rpartition(".")[2] for path, _ in backbone.named_parameters()}
        prefix = int(not names.isdisjoint(CLASS_TOKENS))
    layers = len(blocks) if recipe.tune == "vpt-deep" else 1
    prompts = Prompts(layers, recipe, width, _patch_px(backbone), prefix)
    owner.add_module(NAME, prompts.to(next(backbone.parameters()).device))
    blocks[0].register_forward_pre_hook(prompts.enter)
    for index in range(1, layers):
        blocks[index].register_forward_pre_hook(_Replace(prompts, index))
    blocks[-1].register_forward_hook(prompts.leave)
    try:
        _pass(backbone)
    except RuntimeError as error:  # relative or rotary positions, or layers over all tokens
        raise UsageError(
            f"{recipe.tune}: this network takes no further tokens ({str(error).splitlines()[0]}); tune lora or bias here"
        ) from error


@torch.no_grad()
def _pass(backbone: Any) -> None:
    """Run two black images."""
    size_px = backbone.input.size_px
    backbone.features(torch.zeros(2, 3, size_px, size_px, device=next(backbone.parameters()).device))


def _token_width(backbone: Any, blocks: nn.ModuleList | nn.Sequential) -> int:
    """The width D of the tokens (B, N, D) that every block is given."""
    shapes: list[tuple[int, ...]] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
        for block in blocks
    ]
    _pass(backbone)
    for hook in hooks:
        hook.remove()
    if len(shapes) != len(blocks) or len(set(shapes)) != 1 or len(shapes[0]) != 3 or shapes[0][0] != 2:
        raise UsageError(
            "vpt needs a plain vision transformer, whose blocks all take the same tokens; tune lora or bias here"
        )
    return shapes[0][-1]


def _patch_px(backbone: nn.Module) -> int:
    """The side of a patch: the kernel of the first convolution."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            return int(module.kernel_size[0])
    raise UsageError("vpt needs a network that cuts images into patches by a convolution")
