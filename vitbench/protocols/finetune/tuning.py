"""Which parameters of a backbone are trained: all, none, biases, the last blocks, or those that a method adds."""

from __future__ import annotations

import math

from torch import nn

from vitbench.core.errors import Problem, UsageError
from vitbench.protocols.finetune import peft_methods, prompts
from vitbench.protocols.finetune.blocks import blocks_of
from vitbench.protocols.finetune.pooling import pool_patches
from vitbench.protocols.finetune.regularise import OF_HEAD
from vitbench.protocols.recipe import PEFT_METHODS, PROMPT_METHODS, Recipe

# Standard deviations of a new head's weights; the bias is 0: of MAE (MAE:main_finetune.py:257) and BEiT, there 0.02 times 0.001
# (BEIT:beit/modeling_finetune.py:289-300), and of DeiT (DEIT:models_v2.py:222).
HEAD_STD = {"mae": 2e-5, "deit": 0.02}
HEAD_PRIOR = 0.01  # VPT:src/models/mlp.py, special_bias


def choose(backbone: nn.Module, recipe: Recipe) -> list[str]:
    """Leave only what the recipe tunes trainable, adding what its method adds; returns what was done, in words.

    Raises:
        UsageError: the network has no such layers.
    """
    said = [pool_patches(backbone)] if recipe.pool == "patches" else []
    if recipe.tune == "all":
        return said
    for weight in backbone.parameters():
        weight.requires_grad = False
    if recipe.tune == "bias":
        _tune_biases(backbone)
    elif recipe.tune.startswith("last-"):
        _tune_last(backbone, int(recipe.tune.removeprefix("last-")))
    elif recipe.tune in PEFT_METHODS:
        peft_methods.add(backbone, recipe)
    elif recipe.tune in PROMPT_METHODS:
        prompts.add(backbone, recipe)
    return [
        *said,
        f"tuned: the head and {_count(backbone, recipe)}; what is frozen runs in {recipe.frozen_mode} mode",
    ]


def set_training(backbone: nn.Module, recipe: Recipe) -> None:
    """Training mode; of a backbone that is partly frozen, by default only the dropout of what a method added."""
    backbone.train()
    if recipe.tune == "all" or recipe.frozen_mode == "train":
        return
    backbone.eval()
    for name, module in backbone.named_modules():
        if name.endswith((".lora_dropout", prompts.NAME)):
            module.train()


def init_head(head: nn.Linear, recipe: Recipe) -> None:
    """Initialise a new head: with zeros, as torch does, or as VPT (VPT:src/models/mlp.py), MAE or DeiT."""
    if recipe.head_init == "zeros":
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    elif recipe.head_init == "vpt":
        nn.init.kaiming_normal_(head.weight, a=0, mode="fan_out")
        nn.init.constant_(head.bias, -math.log((1 - HEAD_PRIOR) / HEAD_PRIOR))
    elif recipe.head_init in HEAD_STD:
        nn.init.trunc_normal_(head.weight, std=HEAD_STD[recipe.head_init])
        nn.init.zeros_(head.bias)


def _count(backbone: nn.Module, recipe: Recipe) -> str:
    sizes = [(weight.numel(), weight.requires_grad) for weight in backbone.parameters()]
    tuned = sum(size for size, is_tuned in sizes if is_tuned)
    return f"{tuned:,} of {sum(size for size, _ in sizes):,} parameters of the backbone ({recipe.tune})"


def _tune_biases(backbone: nn.Module) -> None:
    """BitFit (arXiv 2106.10199): all parameters that are called a bias, those of norms included."""
    found = [weight for name, weight in backbone.named_parameters() if name.endswith("bias")]
    if not found:
        raise UsageError("tune: bias: this network has no biases")
    for weight in found:
        weight.requires_grad = True


def _tune_last(backbone: nn.Module, count: int) -> None:
    """The last blocks and what follows them, such as the last norm (VPT:src/models/vit_models.py, partial-N)."""
    name, blocks = blocks_of(backbone)
    if count > len(blocks):
        raise UsageError(Problem(f"tune: last-{count}: this network has {len(blocks)} blocks"))
    chosen = {f"{name}.{child}." for child, _ in list(blocks.named_children())[-count:]}
    is_behind = False
    for path, weight in backbone.named_parameters():
        if path.startswith(f"{name}."):
            is_behind = True
            weight.requires_grad = any(path.startswith(prefix) for prefix in chosen)
        elif is_behind:
            weight.requires_grad = OF_HEAD.isdisjoint(path.split("."))
