"""timm models with the weights of timm's hub, or randomly initialised; each with its provenance."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from safetensors import safe_open
from torch import nn

from vitbench.api import Provenance
from vitbench.backbones.catalog import entry_of, notes_on, trained_on
from vitbench.backbones.models.checkpoint_file import Checkpoint, read_checkpoint
from vitbench.backbones.models.hub_access import COMMIT_LETTERS, cached_file, hub_trouble, reason
from vitbench.backbones.models.timm_activation import trained_activation, with_quick_gelu
from vitbench.backbones.models.timm_create import TimmModel, accepts_size, create, family_of, shape_of
from vitbench.backbones.models.timm_file import target_of
from vitbench.backbones.models.unfilled import loaded
from vitbench.backbones.models.weights import load_into
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.record import LoadReport
from vitbench.core.seeding import seeded

Activation = Literal["own", "timm"]
# Pre-training data by token of timm's weight tags (docs/protocols.md#model-names).
_DATA_TOKENS = {
    "in21k": "ImageNet-21k", "in22k": "ImageNet-22k", "in12k": "ImageNet-12k", "in1k": "ImageNet-1k",
    "jft": "JFT-300M", "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M", "laion2b": "LAION-2B",
    "openai": "WIT-400M", "webli": "WebLI", "lvd": "LVD",
}  # fmt: skip


def from_hub(asked: str, extra: dict[str, Any], activation: Activation = "own") -> TimmModel:
    """A model with timm's pre-trained weights, with the activation that they were trained with (`own`) or timm's.

    Raises:
        UsageError: the model does not take the options in `extra`, or its weights lack some that features depend on.
        DataMissingError: the weights are not in the cache and cannot be downloaded.
    """
    name = with_quick_gelu(asked) if activation == "own" else asked
    if activation == "own":
        extra = {**extra, **trained_activation(name)}
    hub_trouble()
    try:
        model = loaded(lambda: create(name, pretrained=True, **extra))
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
    file, version = _cached_file(config, name)
    built = [f"built as {architecture}: the weights were trained with QuickGELU, not with GELU"] * (
        name != asked
    )
    provenance = Provenance(
        family_of(name),
        "pretrained",
        known.data if known else _pretrain_data(tag),
        f"{spec}@{version}",
        load=_load_report(model, name, file),
        trained_on=known.trained_on if known else trained_on(tag),
        pretrain_tpu_v3_core_days=known.tpu_v3_core_days if known else None,
        licence=known.licence if known else str(config.get("license") or ""),
        notes=(*built, *notes_on(spec, f"timm:{asked}", activation=activation)),
    )
    return TimmModel(model, name, provenance, extra, partial(read_checkpoint, file), knows_classes=True)


def initialised(name: str, size_px: int | None, extra: dict[str, Any], init_seed: int) -> TimmModel:
    """A randomly initialised model, directly for image size `size_px` if given and if its weights depend on it.

    Its weights are those that timm draws for this size with the same seed, whatever other sizes it has.
    """
    sized = _size_option(name, size_px, extra)
    with seeded(init_seed, "initial weights"):
        model = create(name, pretrained=False, **sized, **extra)
    provenance = Provenance(family_of(name), "untrained", "none", f"initial weights, seed {init_seed}")
    return TimmModel(model, name, provenance, extra)


def _size_option(name: str, size_px: int | None, extra: dict[str, Any]) -> dict[str, int]:
    """The option to build an architecture for an image size; none where its weights do not depend on it."""
    embed = None if size_px is None else getattr(shape_of(name, **extra), "patch_embed", None)
    if size_px is None or not getattr(embed, "img_size", None) or not accepts_size(name, size_px, extra):
        return {}
    return {"img_size": size_px}


def _load_report(model: nn.Module, name: str, file: Path) -> LoadReport:
    """The report of weights that timm has loaded, from the names in their file."""
    target = target_of(model, name)
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            names = set(opened.keys())
        if set(target.needed) <= names:
            stand_ins = {one: torch.empty(0, device="meta") for one in names}
            own = model.state_dict()
            stand_ins |= {one: value for one, value in own.items() if one in names}
            return load_into(target, Checkpoint(file, {"": stand_ins}))
    return load_into(target, read_checkpoint(file))


def _cached_file(config: dict[str, Any], name: str) -> tuple[Path, str]:
    """The file in a cache that timm has loaded, and its version: the hub's commit, or the file's name at a plain address.

    Raises:
        UsageError: timm has loaded them from elsewhere, so that nobody could say what was loaded.
    """
    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    if repository:
        given = config.get("hf_hub_filename")
        files = (given,) if given else ("model.safetensors", "pytorch_model.bin")
        found = cached_file(repository, files, revision or None)
        if found:
            return found, found.parent.name[:COMMIT_LETTERS]
    file_name = Path(urlsplit(str(config.get("url") or "")).path).name
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if file_name and downloaded.is_file() and not config.get("custom_load"):
        return downloaded, file_name
    what = (
        f"timm:{name} was loaded from a place that vitbench cannot read, so nobody could say what was loaded"
    )
    raise UsageError(Problem(what, next_step="download the file and name it with `checkpoint: FILE`"))


def _pretrain_data(tag: str) -> str:
    before_fine_tuning = tag.split("_ft_")[0]
    found = [data for token, data in _DATA_TOKENS.items() if token in before_fine_tuning]
    return found[0] if found else "unknown"
