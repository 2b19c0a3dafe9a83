"""Load a checkpoint into a backbone: find the weights in it by their names' endings, and report what became of every array.

What several parts of a file fit is decided by rules (docs/protocols.md#checkpoint-files), never silently: the report says what
was taken and why. A weight that the file lacks is an error, whatever the library thinks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vitbench.backbones.models.checkpoint_file import Checkpoint, Weights
from vitbench.core.errors import Problem, UsageError
from vitbench.core.record import LoadReport

Averaging = Literal["ema", "raw"]
Convert = Callable[[Weights], Weights]

# Classifiers and projections, and what is used in pre-training only: features come before them.
_HEADS = frozenset({
    "head", "heads", "head_dist", "fc", "classifier", "classifier_dist", "last_linear", "cls_head", "aux_classifier",
    "prototypes", "projector", "projection", "predictor", "dino_head", "ibot_head", "decoder", "decoder_embed",
    "decoder_pos_embed", "decoder_blocks", "decoder_norm", "decoder_pred", "mask_token",
})  # fmt: skip
# Parts of names that stand for averaged weights, and for those of two networks that the authors evaluate.
_AVERAGED = frozenset(
    {"ema", "state_dict_ema", "model_ema", "ema_model", "ema_net", "teacher", "averaged", "swa"}
)
_EVALUATED = frozenset({"teacher", "base_encoder", "encoder_q", "online", "online_encoder", "backbone"})
MOST_PREFIX_TOKENS = 5  # class token, and four registers or a distillation token
SHOWN = 3  # names in a message
LISTED = 8  # names in a report


@dataclass(frozen=True)
class Match:
    """A part of a checkpoint under the backbone's names: the state dict, the prefix that was cut off, what fits."""

    state: str
    prefix: str
    weights: Weights
    fitting: frozenset[str]
    lacking: frozenset[str]
    converted: bool = False

    @property
    def path(self) -> str:
        """Its place in the file, `teacher.backbone`; '' is the file itself."""
        return ".".join(part for part in (self.state, self.prefix.rstrip(".")) if part)

    @property
    def parts(self) -> frozenset[str]:
        """The parts of its place, to tell averaged weights from others by."""
        return frozenset(self.path.split("."))


@dataclass(frozen=True)
class Target:
    """A backbone without classifier, to be loaded: its name, its library's conversion of foreign names, its heads' names.

    `others` gives the names of other architectures that a checkpoint fits, for a message.
    """

    module: nn.Module
    name: str
    convert: Convert | None = None
    heads: frozenset[str] = field(default_factory=frozenset)
    others: Callable[[Checkpoint], Sequence[str]] = lambda _checkpoint: ()

    @property
    def needed(self) -> Weights:
        """The weights that features depend on; counters and index tables follow from the architecture."""
        return {name: value for name, value in self.module.state_dict().items() if value.is_floating_point()}


def load_into(target: Target, checkpoint: Checkpoint, averaging: Averaging | None = None) -> LoadReport:
    """Copy a checkpoint's weights into a backbone without classifier, and report what became of all arrays.

    Averaged weights are taken where a file has both, as timm takes them; `averaging` chooses.

    Raises:
        UsageError: a weight is missing or has another shape, or two parts of the file fit equally well.
    """
    found = best_match(target, checkpoint, averaging)
    if found.lacking:
        raise UsageError(_mismatch(target, checkpoint, found))
    own = target.module.state_dict()
    used = [name for name in own if name in found.weights and found.weights[name].shape == own[name].shape]
    fill(target.module, {name: found.weights[name] for name in used})
    rest = [name for name in found.weights if name not in own]
    left_out = [name for name in rest if _is_of_a_head(name, target.heads)]
    rivals = _rivals(found, target, checkpoint)
    return LoadReport(
        in_file=len(found.weights),
        used=len(used),
        left_out=shortened(left_out),
        unused=shortened(name for name in rest if name not in left_out),
        initialised=shortened(name for name in own if name not in used),
        taken=_taken(found, rivals, averaging),
    )


def fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a module; one on the meta device gets copies of the types that it was built with."""
    own = module.state_dict()
    if not any(tensor.is_meta for tensor in own.values()):
        module.load_state_dict(weights, strict=False)
        return
    copies = {
        name: torch.empty(own[name].shape, dtype=own[name].dtype, device=weight.device).copy_(weight)
        for name, weight in weights.items()
    }
    module.load_state_dict(copies, strict=False, assign=True)


def best_match(target: Target, checkpoint: Checkpoint, averaging: Averaging | None = None) -> Match:
    """The part of a checkpoint that has most of a backbone's weights; among equals, what the rules prefer.

    Raises:
        UsageError: `averaging` asks for what the file does not have, or equal parts have different weights.
    """
    matches = [match for match in _matches(target, checkpoint) if _wanted(match, averaging)]
    if not matches:
        kind = "averaged" if averaging == "ema" else "other than averaged"
        step = f"leave out `weights: {averaging}`"
        raise UsageError(Problem(f"{checkpoint.path} has no {kind} weights", next_step=step))
    best = max(matches, key=_preference)
    for other in matches:
        if _preference(other) == _preference(best) and not _equal(best, other):
            what = (
                f"{checkpoint.path} has two networks that fit {target.name}: {best.path!r} and {other.path!r}"
            )
            raise UsageError(Problem(what, next_step="save the one to evaluate as .safetensors"))
    return best


def shortened(names: Iterable[str]) -> tuple[str, ...]:
    """Names for a report; of many, their first parts with counts: `text… (148)`."""
    names = sorted(names)
    if len(names) <= LISTED:
        return tuple(names)
    counts = Counter(re.split(r"[./]", name)[0] for name in names)
    listed = [f"{first}… ({n})" if n > 1 else first for first, n in counts.items()]
    return tuple(listed if len(listed) <= LISTED else [*listed[:LISTED], f"and {len(listed) - LISTED} more"])


def _matches(target: Target, checkpoint: Checkpoint) -> Iterator[Match]:
    needed = target.needed
    for state, weights in checkpoint.states.items():
        for prefix in _prefixes(weights, needed):
            inside = {
                name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
            }
            plain = _match(state, prefix, inside, needed)
            if plain.lacking and target.convert is not None:
                names = _unresampled(inside, target.convert(dict(inside)))
                converted = _match(state, prefix, names, needed, converted=True)
                plain = max(plain, converted, key=lambda match: len(match.fitting))
            yield plain


def _unresampled(before: Weights, after: Weights) -> Weights:
    """Converted weights without those that a conversion has interpolated to another size: scores would be another network's.

    Position embeddings may lose or gain the rows of a few prefix tokens.
    """

    def kept(name: str) -> bool:
        old, new = before.get(name), after[name]
        if old is None or old.numel() == new.numel():
            return True
        return old.ndim == new.ndim == 3 and abs(old.shape[1] - new.shape[1]) <= MOST_PREFIX_TOKENS

    return {name: value if kept(name) else before[name] for name, value in after.items()}


def _match(state: str, prefix: str, weights: Weights, needed: Weights, *, converted: bool = False) -> Match:
    fitting = frozenset(
        name for name, value in needed.items() if name in weights and weights[name].shape == value.shape
    )
    return Match(state, prefix, weights, fitting, frozenset(needed) - fitting, converted)


def _prefixes(weights: Weights, needed: Weights) -> list[str]:
    """What stands before the backbone's names, '' included: found by the names' endings, and by what most names begin with."""
    counts: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in needed:
                counts[".".join(parts[:i])] += 1
    least = max(counts.values(), default=0) // 2  # fewer are accidents, such as norm.weight of a deeper layer
    found = [prefix for prefix, n in counts.items() if n > least and prefix]
    if not found:  # all names are foreign: the conversion may know them after the wrappers of a training loop
        firsts = Counter(name.partition(".")[0] for name in weights if "." in name)
        found = [first for first, n in firsts.items() if n > len(weights) // 2]
    return ["", *(f"{prefix}." for prefix in found)]


def _wanted(match: Match, averaging: Averaging | None) -> bool:
    return averaging is None or bool(match.parts & _AVERAGED) == (averaging == "ema")


def _preference(match: Match) -> tuple[int, bool, bool, bool]:
    """Most weights first; then averaged ones, as timm takes them; then the network that its authors evaluate."""
    return (
        len(match.fitting), not match.converted, bool(match.parts & _AVERAGED), bool(match.parts & _EVALUATED),
    )  # fmt: skip


def _equal(one: Match, other: Match) -> bool:
    return one is other or all(torch.equal(one.weights[name], other.weights[name]) for name in one.fitting)


def _rivals(found: Match, target: Target, checkpoint: Checkpoint) -> list[Match]:
    """Other complete parts of the file with other weights."""
    complete = (match for match in _matches(target, checkpoint) if not match.lacking)
    return [match for match in complete if match.path != found.path and not _equal(found, match)]


def _taken(found: Match, rivals: list[Match], averaging: Averaging | None) -> str:
    where = found.path or "the file's own names"
    conversion = ", under the names of timm's conversion" if found.converted else ""
    if not rivals:
        return f"{where}{conversion}" if found.path or conversion else ""
    others = ", ".join(rival.path or "the file's own names" for rival in rivals)
    if averaging is not None:
        why = f"weights: {averaging}"
    elif found.parts & _AVERAGED and not all(rival.parts & _AVERAGED for rival in rivals):
        why = "the averaged weights"
    else:
        why = "the network that its authors evaluate"
    return f"{where}{conversion}, not {others}: {why}"


def _is_of_a_head(name: str, heads: frozenset[str]) -> bool:
    parts = name.split(".")
    starts = {".".join(parts[: i + 1]) for i in range(len(parts))}
    return parts[0] in _HEADS or bool(starts & heads)


def _mismatch(target: Target, checkpoint: Checkpoint, found: Match) -> Problem:
    """A mismatch, with names of both sides and with what may help."""
    own, needed = target.module.state_dict(), target.needed
    shapes = [name for name in sorted(found.lacking) if name in found.weights]
    absent = [name for name in needed if name in found.lacking and name not in found.weights]
    strange = [name for name in found.weights if name not in own and not _is_of_a_head(name, target.heads)]
    said = [f"{len(found.fitting)} of {len(needed)} weights found"]
    if absent:
        said.append(f"the file lacks {_some(absent)}")
    if strange:
        said.append(f"the model does not have {_some(strange)}")
    if shapes:
        given, wanted = (tuple(side[shapes[0]].shape) for side in (found.weights, own))
        said.append(f"{shapes[0]} has shape {given}, expected {wanted}")
    what = f"{checkpoint.path} for {target.name}: {'; '.join(said)}"
    fitting = tuple(target.others(checkpoint))
    return Problem(
        what, nearest=fitting, next_step="check that the checkpoint was saved from this architecture"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
