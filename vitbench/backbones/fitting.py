"""Which of timm's architectures a checkpoint fits, by the names and shapes of its weights, for a path without an architecture.

`timm_shapes.json` has a signature of every architecture; tests/making/timm_shapes.py makes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from vitbench.core.errors import Problem, VitbenchError
from vitbench.core.files import digest_bytes
from vitbench.core.registry import BACKBONES

LETTERS = 10  # of a signature: 40 bits for some 1,300 architectures
HEADS = ("head", "fc.", "classifier", "last_linear", "pre_logits")
RESIZED = ("pos_embed", "rel_pos", "relative_position", "attn_mask", "rope")  # follow the image size
NAMED = 3  # architectures in a message
PREFIX_SHARE = 0.5  # of all names, that begin with a prefix

Shape = tuple[int, ...]


def signature(shapes: Mapping[str, Shape]) -> str:
    """A digest of the names and shapes of weights with two or more dimensions, but for heads and what follows image size."""
    kept = {
        name: shape
        for name, shape in shapes.items()
        if len(shape) > 1 and not name.startswith(HEADS) and not any(part in name for part in RESIZED)
    }
    text = "\n".join(f"{name} {shape}" for name, shape in sorted(kept.items()))
    return digest_bytes(text.encode())[:LETTERS] if kept else ""


def explained(path: Path) -> Problem:
    """What to type instead of a bare path: the architectures that its weights fit."""
    if path.suffix == ".npz":
        return Problem(f"{path} is a file, not a backbone", next_step=f"npz:{path}")
    what = f"{path} is a file: name its architecture too"
    generic = f'--backbone "timm:ARCHITECTURE,checkpoint={path}"'
    try:
        found = fitting(path)
    except VitbenchError as error:
        return Problem(f"{what} (it cannot be read: {error})", next_step=generic)
    if not found:
        return Problem(f"{what}; its weights fit none of timm's as they are named", next_step=generic)
    names = [f"timm:{name}" for name in found]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    fits = f"{what}; its weights fit {', '.join(names[:NAMED])}{more}"
    return Problem(fits, next_step=f'--backbone "{names[0]},checkpoint={path}"')


def fitting(path: Path) -> list[str]:
    """The names of timm's architectures that a checkpoint fits, the shortest first; [] if there are none.

    Raises:
        UsageError: the file is damaged, or holds no named tensors.
    """
    from vitbench.backbones.models.checkpoint_file import read_checkpoint

    for weights in read_checkpoint(path).states.values():
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        for prefix in _prefixes(shapes):
            inside = {
                name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)
            }
            if found := _known().get(signature(inside)):
                return sorted(found, key=lambda name: (len(name), name))
    return []


def _prefixes(names: Iterable[str]) -> list[str]:
    """'' and the prefixes that most names share, such as `module.` and `module.backbone.`."""
    every = list(names)
    counts = Counter(
        ".".join(parts[:depth]) + "."
        for parts in (name.split(".") for name in every)
        for depth in range(1, min(len(parts), 5))
    )
    return ["", *(prefix for prefix, count in counts.most_common() if count > PREFIX_SHARE * len(every))]


@cache
def _known() -> dict[str, list[str]]:
    """Architectures by their signature."""
    known: dict[str, list[str]] = json.loads(
        Path(__file__).with_name("timm_shapes.json").read_text(encoding="utf-8")
    )
    return known


BACKBONES.explain_file = explained
