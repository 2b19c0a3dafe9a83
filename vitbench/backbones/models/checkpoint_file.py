"""Read local checkpoints without executing code: the state dicts in a file, by their place in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vitbench.backbones.models.archives import refuse_bomb
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest

Weights = dict[str, Tensor]
DEEPEST = 4  # levels of dictionaries in a training checkpoint
LONGEST_REASON = 200  # characters of another library's message
NOT_WEIGHTS = (
    "optimizer",
    "optimizers",
    "optimizer_states",
    "scaler",
    "amp",
    "lr_scheduler",
    "lr_schedulers",
    "callbacks",
)


@dataclass(frozen=True)
class Checkpoint:
    """The state dicts of a file, by the keys that lead to them: '' is the file itself, `state_dict_ema` one inside it."""

    path: Path
    states: dict[str, Weights]


class _Unread:
    """Stands for an object in a pickle that is no tensor: its class is never imported, nothing of it is executed."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the state dicts of a .safetensors file or of a .pth file. Only tensors are loaded, never pickled code.

    Objects of other classes, such as the settings of a training run, are skipped.

    Raises:
        DataMissingError: there is no such file.
        UsageError: it is damaged, or holds no named tensors.
    """
    if not path.is_file():
        raise DataMissingError(_missing(path))
    refuse_bomb(path)
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:
        raise UsageError(_unreadable(path, error)) from error
    states = dict(_states(content, "", 0))
    if not states:
        what = f"{path} holds {_described(content)}, not a state dict of named weights"
        raise UsageError(
            Problem(what, next_step="save model.state_dict() as .safetensors, or with torch.save")
        )
    return Checkpoint(path, states)


def _unpickled(path: Path) -> Any:
    """The content of a .pth file, with `_Unread` in place of every object that torch does not allow by itself."""
    unread: list[Any] = []
    with contextlib.suppress(
        Exception
    ):  # files of before torch 1.6 are no zip archives and cannot be searched
        unread = [(_Unread, name) for name in get_unsafe_globals_in_checkpoint(path)]
    with safe_globals(unread):
        return torch.load(path, map_location="cpu", weights_only=True)


def _states(content: object, name: str, depth: int) -> Iterator[tuple[str, Weights]]:
    """Every dictionary with tensors, outermost first; the state of an optimiser is none."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        if str(key) not in NOT_WEIGHTS:
            yield from _states(value, f"{name}.{key}".lstrip("."), depth + 1)


def _described(content: object) -> str:
    if isinstance(content, _Unread):
        return "a whole pickled object, which is never executed"
    if isinstance(content, Mapping):
        return f"a dictionary of {', '.join(map(str, list(content)[:5])) or 'nothing'}"
    return f"a {type(content).__name__}"


def _missing(path: Path) -> Problem:
    beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    step = (
        "correct the path" if path.parent.is_dir() else f"correct the path: there is no folder {path.parent}"
    )
    return Problem(f"{path} does not exist", nearest=nearest(path.name, beside), next_step=step)


def _unreadable(path: Path, error: Exception) -> Problem:
    """What is wrong with a file, in one sentence; torch's own message goes on with advice to execute the file."""
    text = " ".join(f"{error}".split())
    what_it_was = text.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0]
    reason = what_it_was[:LONGEST_REASON] or type(error).__name__
    return Problem(
        f"{path} cannot be read as weights: {reason}",
        next_step="download or copy it again, or save model.state_dict() as .safetensors; pickled objects are never executed",
    )
