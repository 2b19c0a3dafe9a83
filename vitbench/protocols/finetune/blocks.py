"""The blocks of a network: its only row of layers of one kind."""

from __future__ import annotations

from torch import nn

from vitbench.core.errors import UsageError

NAMES = frozenset(
    {"blocks", "layer", "layers", "resblocks", "encoder_layers"}
)  # timm, transformers, open_clip, torchvision


def blocks_of(backbone: nn.Module) -> tuple[str, nn.ModuleList | nn.Sequential]:
    """The name and the container of a network's blocks, which are called one after another.

    Raises:
        UsageError: it has none, as convolutional networks whose stages differ.
    """
    found = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and (name.rpartition(".")[2] in NAMES)
        and len({type(child) for child in module}) == 1
    ]
    if len(found) != 1:  # none, or one for each stage
        raise UsageError(
            "this network has no single row of blocks, as plain vision transformers have: tune all, head, bias, or a method "
            "of peft with targets"
        )
    return found[0]
