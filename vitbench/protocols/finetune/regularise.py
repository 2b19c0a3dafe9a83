"""Dropout and stochastic depth, switched on in a network that was built without.

Layers are found by type and name, as timm names them: `attn_drop` acts on attention weights, `drop_path…` on a residual branch,
any other dropout layer on activations. That is where vit_jax drops out, too: after the position embeddings, the attention's
projection, and both layers of the MLP (VJ:vit_jax/models_vit.py:91-102, 147, 195).
"""

from __future__ import annotations

from typing import cast

from torch import nn

from vitbench.protocols.recipes import Recipe

OF_HEAD = frozenset(
    {"head", "head_drop", "classifier", "fc"}
)  # of the classifier that a backbone was pre-trained with


def regularise(backbone: nn.Module, recipe: Recipe) -> list[str]:
    """Switch on what the recipe asks for, and return in words what was, and what this network has no layers for."""
    wanted = (
        ("dropout", recipe.dropout, _set_dropout),
        ("attention dropout", recipe.attention_dropout, _set_attention_dropout),
        ("stochastic depth", recipe.stochastic_depth, _set_stochastic_depth),
    )
    notes = []
    for name, probability, apply in wanted:
        if probability:
            layers = apply(backbone, probability)
            what = f"in {layers} layers" if layers else "not applied: this network has no layers for it"
            notes.append(f"{name} {probability:g} {what}")
    return notes


def _set_dropout(backbone: nn.Module, probability: float) -> int:
    """Dropout of activations; returns the number of layers."""
    layers = [
        module
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Dropout)
        and not name.endswith("attn_drop")
        and OF_HEAD.isdisjoint(name.split("."))
    ]
    for layer in layers:
        layer.p = probability
    return len(layers)


def _set_attention_dropout(backbone: nn.Module, probability: float) -> int:
    """Dropout of attention weights; returns the number of layers."""
    layers = 0
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Dropout) and name.endswith("attn_drop"):
            module.p = probability
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = probability
        else:
            continue
        layers += 1
    return layers


def _set_stochastic_depth(backbone: nn.Module, most: float) -> int:
    """Drop residual branches with a probability that grows linearly from 0 in the first block to `most` in the last.

    As in arXiv 1603.09382, counted from 0 as in timm (whose EfficientNets alone stop one block's step below `most`); branches
    of one block share a probability. Returns the number of blocks.
    """
    from timm.layers.drop import DropPath, calculate_drop_path_rates

    found = [(block, _branches(block)) for block in backbone.modules()]
    blocks = [(block, branches) for block, branches in found if branches]
    rates = cast("list[float]", calculate_drop_path_rates(most, len(blocks)))
    for (block, branches), rate in zip(blocks, rates, strict=True):
        for name in branches:
            setattr(block, name, DropPath(rate) if rate else nn.Identity())
    return len(blocks)


def _branches(block: nn.Module) -> list[str]:
    """The attributes of a block that drop its residual branches; where nothing is dropped, timm's are an identity or None."""
    from timm.layers.drop import DropPath

    held = {**vars(block), **dict(block.named_children())}
    kinds = DropPath | nn.Identity | None
    return [name for name, value in held.items() if name.startswith("drop_path") and isinstance(value, kinds)]
