"""timm models with the weights of a local checkpoint (docs/protocols.md#checkpoint-files)."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import is_model
from torch import nn

from vitbench.api import Provenance
from vitbench.backbones.models.checkpoint_file import Checkpoint, Weights, read_checkpoint
from vitbench.backbones.models.timm_create import (
    TimmModel,
    create,
    create_unfilled,
    family_of,
    module_of,
)
from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.models.weights import Averaging, Target, best_match, load_into
from vitbench.core.errors import UsageError
from vitbench.core.record import LoadReport

# Names under which timm's modules keep their conversion of foreign checkpoints.
_CONVERSIONS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
SEARCH_S = 3.0  # for an architecture that a file fits, where it does not fit the one that was named


def from_file(name: str, path: Path, extra: dict[str, Any], averaging: Averaging | None = None) -> TimmModel:
    """A model with the weights of a local checkpoint, in every layout that timm reads (docs/protocols.md#checkpoint-files).

    The image size and the pooling are the file's where the architecture's own do not fit it; the provenance says so.

    Raises:
        UsageError: a weight is missing or has another shape, or the checkpoint cannot be read without unpickling.
        DataMissingError: there is no such file.
    """
    checkpoint = read_checkpoint(path)
    unfilled = create_unfilled(name, **extra)
    if adjusted := dict(_adjustments(unfilled, checkpoint)):
        unfilled = create_unfilled(name, **extra, **adjusted)
    model, report = _loaded(unfilled, name, {**extra, **adjusted}, checkpoint, averaging)
    built = ", ".join(f"{option} {value}" for option, value in adjusted.items())
    notes = (f"built with {built}, as the checkpoint's weights are",) if built else ()
    notes = (*notes, *_other_twin(name))
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    unknown = f"the checkpoint does not say how pixels were normalised: timm's mean and std of {name} are used; state them"
    provenance = Provenance(
        family_of(name), "pretrained", "unknown", path.name, report, notes=notes, pixels_unknown=unknown if config else ""
    )  # fmt: skip
    adjusted.pop("img_size", None)
    return TimmModel(model, name, provenance, {**extra, **adjusted}, functools.partial(read_checkpoint, path))


def _loaded(
    model: nn.Module,
    name: str,
    options: dict[str, Any],
    checkpoint: Checkpoint,
    averaging: Averaging | None,
) -> tuple[nn.Module, LoadReport]:
    """A model with a checkpoint's weights, and what became of them; built again where it needs its initial values."""
    with contextlib.suppress(UsageError):  # timm's conversion may want to see initial values
        target = replace(target_of(model, name), others=lambda _checkpoint: ())
        report = load_into(target, checkpoint, averaging)
        if not any(tensor.is_meta for tensor in model.state_dict().values()):
            return model, report
    model = create(name, pretrained=False, **options)
    return model, load_into(target_of(model, name), checkpoint, averaging)


def _other_twin(name: str) -> Iterator[str]:
    """A remark if timm has the architecture twice: no statistic tells which BatchNorm epsilon weights were trained with."""
    architecture = name.partition(".")[0]
    is_tf = architecture.startswith("tf_")
    twin = architecture.removeprefix("tf_") if is_tf else f"tf_{architecture}"
    if is_model(twin):
        own, other = (
            ("TensorFlow's (1e-3)", "PyTorch's (1e-5)")
            if is_tf
            else ("PyTorch's (1e-5)", "TensorFlow's (1e-3)")
        )
        yield f"BatchNorm's epsilon is {own}; weights that were trained with {other} belong under timm:{twin}"


def target_of(model: nn.Module, name: str) -> Target:
    """What a checkpoint is loaded into: a model, timm's conversion of foreign names, and the names of its classifiers."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    others = functools.partial(_fitting_names, name)
    return Target(model, f"timm:{name}", _conversion(model, name), frozenset(heads), others)


def _conversion(model: nn.Module, name: str) -> Any:
    """Timm's own conversion of foreign names for this architecture; None if it has none."""
    module = sys.modules[timm.models.model_entrypoint(name.partition(".")[0]).__module__]
    found = next((getattr(module, one) for one in _CONVERSIONS if hasattr(module, one)), None)
    if found is None:
        return None
    accepted = inspect.signature(found).parameters
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in accepted else {}
    convert = functools.partial(found, **({"model": model} if "model" in accepted else {}), **options)

    def converted(weights: Weights) -> Weights:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = convert(dict(weights))
        except Exception:  # noqa: BLE001  made for other files: this one is not of the kind that it converts
            return weights
        return {key: value for key, value in result.items() if isinstance(value, torch.Tensor)}

    return converted


def _adjustments(model: nn.Module, checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    """Options of the architecture that a ViT's file asks for: its image size, and the norm that its head was put on."""
    own = model.state_dict()
    names = {name: value for weights in checkpoint.states.values() for name, value in weights.items()}
    positions = next(
        (value for name, value in names.items() if name.endswith("pos_embed") and value.ndim == 3), None
    )
    embed: Any = getattr(model, "patch_embed", None)
    if positions is not None and embed is not None and "pos_embed" in own and own["pos_embed"].ndim == 3:
        grid = tuple(embed.grid_size)
        prefix = own["pos_embed"].shape[1] - grid[0] * grid[1]
        sides = {extra: round(max(positions.shape[1] - extra, 0) ** 0.5) for extra in (prefix, 1, 0)}
        squares = [side for extra, side in sides.items() if side and side**2 == positions.shape[1] - extra]
        if squares and grid[0] == grid[1] and grid[0] not in squares:
            yield "img_size", squares[0] * int(embed.patch_size[0])
    ends = {name.rpartition("fc_norm.")[1] for name in names}
    if (
        "fc_norm." in ends
        and "norm.weight" in own
        and isinstance(getattr(model, "fc_norm", None), nn.Identity)
    ):
        yield "global_pool", "avg"


def _fitting_names(name: str, checkpoint: Checkpoint) -> list[str]:
    """Other architectures of the same module of timm whose shapes a file has, at most two, found in a few seconds."""
    architecture = name.partition(".")[0]
    others = [one for one in timm.list_models(module=module_of(name)) if one != architecture]
    others.sort(key=lambda other: -difflib.SequenceMatcher(None, architecture, other).ratio())
    found: list[str] = []
    begun_s = time.monotonic()
    for other in others:
        if len(found) == 2 or time.monotonic() - begun_s > SEARCH_S:
            break
        try:
            with on_meta():
                model = create(other, pretrained=False)
            target = Target(model, f"timm:{other}")
            if not best_match(target, checkpoint).lacking:
                found.append(f"timm:{other}")
        except Exception:  # noqa: BLE001  an architecture that cannot be built without weights is no suggestion
            continue
    return found
