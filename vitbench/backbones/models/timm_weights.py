"""timm models with weights: from timm's hub, from a local checkpoint, or randomly initialised; each with its provenance."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import safe_open
from timm.models import get_pretrained_cfg, is_model
from torch import nn

from vitbench.api import Provenance
from vitbench.backbones.catalog import entry_of, notes_on, trained_on
from vitbench.backbones.models.checkpoint_file import Checkpoint, Weights, read_checkpoint
from vitbench.backbones.models.hub_access import hub_trouble, reason
from vitbench.backbones.models.weights import Averaging, Target, best_match, load_into
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.record import LoadReport
from vitbench.core.seeding import seeded

# Pre-training data by token of timm's weight tags (docs/protocols.md#model-names).
_DATA_TOKENS = {
    "in21k": "ImageNet-21k", "in22k": "ImageNet-22k", "in12k": "ImageNet-12k", "in1k": "ImageNet-1k",
    "jft": "JFT-300M", "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M", "laion2b": "LAION-2B",
    "openai": "WIT-400M", "webli": "WebLI", "lvd": "LVD",
}  # fmt: skip
_FAMILIES = (
    ("vit_base_r50", "Hybrid"), ("vit_large_r50", "Hybrid"), ("vit_small_r26", "Hybrid"), ("vit_tiny_r_", "Hybrid"),
    ("vit_", "ViT"), ("deit", "DeiT"), ("swin", "Swin"), ("tf_efficientnet", "EfficientNet"),
    ("efficientnet", "EfficientNet"), ("convnext", "ConvNeXt"), ("mixer", "Mixer"),
)  # fmt: skip
# Names under which timm's modules keep their conversion of foreign checkpoints.
_CONVERSIONS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
_NORM_IN_HEAD = ("efficientvit_msra", "shvit")  # modules whose classifier is a BatchNorm and a linear layer
MOST_TRIED = 60  # architectures whose shapes are compared with a file that does not fit


@dataclass(frozen=True)
class TimmModel:
    """A timm model without classifier, the name and the options that it was built with, and where its weights come from."""

    model: nn.Module
    name: str
    provenance: Provenance
    extra: dict[str, Any] = field(default_factory=dict)


def create(name: str, **options: Any) -> nn.Module:
    """Build a timm model without classifier.

    Where timm would drop a trained norm together with the classifier, the norm stays: the model's output is then its features.

    Raises:
        UsageError: the architecture does not take one of the options.
    """
    keeps_norm = _module_of(name) in _NORM_IN_HEAD
    classes: dict[str, Any] = {} if keeps_norm else {"num_classes": 0}
    try:
        with warnings.catch_warnings():
            # timm warns about renamed models and activations: the record and `vitbench list` say it instead
            warnings.simplefilter("ignore")
            model: Any = timm.create_model(name, **classes, **options)
    except TypeError as error:
        raise UsageError(
            f"timm:{name} does not accept {', '.join(sorted(options))}: {_one_line(error)}"
        ) from error
    if keeps_norm:
        classifier = model.get_classifier()
        model.set_submodule(next(name for name, m in model.named_modules() if m is classifier), nn.Identity())
    return cast("nn.Module", model)


def puts_norm_in_head(name: str) -> bool:
    """Whether the output of a model that `create` has built is its features, for its pre-logits lack a trained norm."""
    return _module_of(name) in _NORM_IN_HEAD


def _module_of(name: str) -> str:
    """Timm's module of an architecture; '' for a name on a hub."""
    architecture = name.partition(".")[0]
    return (
        timm.models.model_entrypoint(architecture).__module__.rpartition(".")[2]
        if is_model(architecture)
        else ""
    )


def from_hub(asked: str, extra: dict[str, Any]) -> TimmModel:
    """A model with timm's pre-trained weights, with the activation that they were trained with.

    Raises:
        UsageError: the model does not take the options in `extra`, or its weights lack some that features depend on.
        DataMissingError: the weights are not in the cache and cannot be downloaded.
    """
    name = _with_quick_gelu(asked)
    hub_trouble()
    try:
        model = create(name, pretrained=True, **extra)
    except UsageError:
        raise
    except Exception as error:  # each download client raises its own exceptions
        raise DataMissingError(
            Problem(
                f"the weights of timm:{name} cannot be loaded: {reason(error)}",
                next_step="connect to the internet once to download them, or set `checkpoint: FILE` or `pretrained: false`",
            )
        ) from error
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    tag, architecture = str(config.get("tag") or ""), name.partition(".")[0]
    spec = f"timm:{architecture}.{tag}"
    known = entry_of(f"timm:{asked.partition('.')[0]}.{tag}")
    file = _cached_file(config)
    quick = (
        ()
        if name == asked
        else (f"built as {architecture}: the weights were trained with QuickGELU, not with GELU",)
    )
    provenance = Provenance(
        _family(name),
        "pretrained",
        known.data if known else _pretrain_data(tag),
        f"{spec}@{file.parent.name[:12]}" if file else spec,
        load=_load_report(model, name, file) if file else None,
        trained_on=known.trained_on if known else trained_on(tag),
        pretrain_tpu_v3_core_days=known.tpu_v3_core_days if known else None,
        licence=known.licence if known else str(config.get("license") or ""),
        notes=(*quick, *notes_on(spec, f"timm:{asked}")),
    )
    return TimmModel(model, name, provenance, extra)


def from_file(name: str, path: Path, extra: dict[str, Any], averaging: Averaging | None = None) -> TimmModel:
    """A model with the weights of a local checkpoint, in every layout that timm reads (docs/protocols.md#checkpoint-files).

    The image size and the pooling are the file's where the architecture's own do not fit it; the provenance says so.

    Raises:
        UsageError: a weight is missing or has another shape, or the checkpoint cannot be read without unpickling.
        DataMissingError: there is no such file.
    """
    checkpoint = read_checkpoint(path)
    model = create(name, pretrained=False, **extra)
    adjusted = dict(_adjustments(model, checkpoint))
    if adjusted:
        model = create(name, pretrained=False, **extra, **adjusted)
    try:
        report = load_into(_target(model, name), checkpoint, averaging)
    except UsageError as error:
        fitting = tuple(f"timm:{one}" for one in _fitting_names(name, checkpoint))
        raise UsageError([replace(problem, nearest=fitting) for problem in error.problems]) from error
    built = ", ".join(f"{option} {value}" for option, value in adjusted.items())
    notes = (f"built with {built}, as the checkpoint's weights are",) if built else ()
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    unknown = f"the checkpoint does not say how pixels were normalised: timm's mean and std of {name} are used; state them"
    provenance = Provenance(
        _family(name), "pretrained", "unknown", path.name, report, notes=notes, pixels_unknown=unknown if config else ""
    )  # fmt: skip
    adjusted.pop("img_size", None)
    return TimmModel(model, name, provenance, {**extra, **adjusted})


def initialised(name: str, size_px: int | None, extra: dict[str, Any], init_seed: int) -> TimmModel:
    """A randomly initialised model, directly for image size `size_px` if given and if its weights depend on it."""
    with seeded(init_seed, "initial weights"):
        model = create(name, pretrained=False, **extra)
        if size_px is not None and getattr(getattr(model, "patch_embed", None), "img_size", None):
            with contextlib.suppress(UsageError):  # it takes any size
                model = create(name, pretrained=False, img_size=size_px, **extra)
    provenance = Provenance(_family(name), "untrained", "none", f"initial weights, seed {init_seed}")
    return TimmModel(model, name, provenance, extra)


def _target(model: nn.Module, name: str) -> Target:
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    classifier = config.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return Target(model, f"timm:{name}", _conversion(model, name), frozenset(heads))


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
    """Other architectures of the same module of timm whose shapes a file has, for a message."""
    architecture = name.partition(".")[0]
    others = [one for one in timm.list_models(module=_module_of(name)) if one != architecture]
    found = []
    for other in others[:MOST_TRIED]:
        try:
            with torch.device("meta"):
                model = create(other, pretrained=False)
            target = Target(model, f"timm:{other}")
            if not best_match(target, checkpoint).lacking:
                found.append(other)
        except Exception:  # noqa: BLE001  an architecture that cannot be built without weights is no suggestion
            continue
        if len(found) == 2:
            break
    return found


def _load_report(model: nn.Module, name: str, file: Path) -> LoadReport:
    """The report of weights that timm has loaded, from the names in their file."""
    target = _target(model, name)
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            names = set(opened.keys())
        if set(target.needed) <= names:
            stand_ins = {one: torch.empty(0, device="meta") for one in names}
            own = model.state_dict()
            stand_ins |= {one: value for one, value in own.items() if one in names}
            return load_into(target, Checkpoint(file, {"": stand_ins}))
    return load_into(target, read_checkpoint(file))


def _cached_file(config: dict[str, Any]) -> Path | None:
    """The file in the hub's cache that timm has loaded; None if the weights came from elsewhere."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    if not repository:
        return None
    given = config.get("hf_hub_filename")
    for file in (given,) if given else ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _with_quick_gelu(name: str) -> str:
    """The name under which timm has the same weights with QuickGELU, if it has: they were trained with it."""
    architecture, _, _ = name.partition(".")
    other = architecture.replace("_clip_", "_clip_quickgelu_")
    if other == architecture or "quickgelu" in architecture or not is_model(other):
        return name
    try:
        own = get_pretrained_cfg(name)
        quick = get_pretrained_cfg(f"{other}.{own.tag}" if own else other)
    except RuntimeError:  # there are no weights of this tag
        return name
    if own is None or quick is None or not quick.hf_hub_id or quick.hf_hub_id != own.hf_hub_id:
        return name
    return f"{other}.{own.tag}"


def _family(name: str) -> str:
    if "resnetv2" in name and "_bit" in name:
        return "BiT"
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), name.split("_")[0])


def _pretrain_data(tag: str) -> str:
    before_fine_tuning = tag.split("_ft_")[0]
    found = [data for token, data in _DATA_TOKENS.items() if token in before_fine_tuning]
    return found[0] if found else "unknown"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
