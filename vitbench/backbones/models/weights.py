"""Read local checkpoints without executing code, and load them only if they hold every weight of the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vitbench.backbones.models.archives import refuse_bomb
from vitbench.core.errors import Problem, UsageError

_HEADS = ("head.", "fc.", "classifier.", "head_dist.", "heads.")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "student", "module")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "visual.", "_orig_mod.")


@dataclass(frozen=True)
class LoadCount:
    """How many of the weights were loaded, are missing from the checkpoint, or are in it but not in the backbone."""

    loaded: int
    missing: int
    unexpected: int


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .safetensors checkpoint, or of a .pth checkpoint that holds only tensors.

    Raises:
        UsageError: the checkpoint is damaged, needs code to be executed, or is not a state dict.
    """
    refuse_bomb(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = f"{type(error).__name__}: {error}".strip().split("\n")[0][:200]
        raise UsageError(
            f"{path} cannot be read as weights: {first}. Only tensors are loaded, never pickled objects; "
            "save the state dict as .safetensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds a {type(content).__name__}, not a state dict of named weights")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def load_into(module: nn.Module, weights: dict[str, Tensor], what: str) -> LoadCount:
    """Copy weights into a module without classifier and count them; classifier weights in the checkpoint are ignored.

    `what` names the checkpoint and the backbone in messages.

    Raises:
        UsageError: a weight is missing or has another shape.
    """
    own = module.state_dict()
    weights = _without_prefix(weights, own)
    missing = sorted(set(own) - set(weights))
    unexpected = sorted(set(weights) - set(own))
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or shapes:
        given = f"{len(own) - len(missing)} of {len(own)} weights found, {len(unexpected)} unexpected"
        first = f"missing {missing[0]}" if missing else _shape_text(shapes[0], own, weights)
        step = "check that the checkpoint was saved from this architecture"
        raise UsageError(Problem(f"{what}: {given}; {first}", next_step=step))
    module.load_state_dict({name: weights[name] for name in own})
    foreign = [name for name in unexpected if not name.startswith(_HEADS)]
    return LoadCount(len(own), 0, len(foreign))


def _without_prefix(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefix, or chain of two prefixes, that makes most names match those of the module."""
    chains = ["", *_PREFIXES, *(first + second for first in _PREFIXES for second in _PREFIXES)]
    best = max(chains, key=lambda chain: sum(chain + name in weights for name in own))
    return {name.removeprefix(best): value for name, value in weights.items()}


def _shape_text(name: str, own: dict[str, Tensor], weights: dict[str, Tensor]) -> str:
    return f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
