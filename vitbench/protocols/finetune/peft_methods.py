"""Parameter-efficient methods of Hugging Face's peft (the extra `peft`), added to a backbone's layers in place."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from torch import nn

from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.protocols.recipe import Recipe

# Projections of attention, by the endings that timm's and transformers' layers have; the first set that is there is taken.
ATTENTION = (("qkv",), ("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q", "k", "v"))


def add(backbone: nn.Module, recipe: Recipe) -> None:
    """Add the parameters of a method to the layers that the recipe names, and make them alone trainable.

    Raises:
        DataMissingError: peft is not installed.
        UsageError: no layer of the network has such a name, or peft has no such method for it.
    """
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError as error:
        raise DataMissingError(
            Problem(f"tune: {recipe.tune} needs peft ({error})", next_step="pip install 'vitbench[peft]'")
        ) from error
    config = _config(peft, recipe, _targets(backbone, recipe))
    try:
        with warnings.catch_warnings():  # it says so of timm's LayerNorm, a subclass of torch's
            warnings.filterwarnings("ignore", message="Unsupported layer type")
            peft.inject_adapter_in_model(config, backbone)
    except ValueError as error:
        raise UsageError(f"tune: {recipe.tune}: {str(error).splitlines()[0]}") from error


def _targets(backbone: nn.Module, recipe: Recipe) -> list[str]:
    """Endings of the names of the layers that are changed."""
    kinds = nn.LayerNorm if recipe.tune == "ln_tuning" else nn.Linear | nn.Conv2d
    names = [name for name, module in backbone.named_modules() if isinstance(module, kinds)]
    if recipe.tune == "ln_tuning" and not recipe.targets:
        return names
    endings = sorted({name.rpartition(".")[2] for name in names})
    if recipe.targets:
        if unknown := [name for name in recipe.targets if name.rpartition(".")[2] not in endings]:
            raise UsageError(
                f"tune: {recipe.tune}: no layer ends in {unknown[0]!r}: targets are {', '.join(endings)}"
            )
        return list(recipe.targets)
    for projections in ATTENTION:
        if set(projections) <= set(endings):
            return list(projections)
    raise UsageError(
        f"tune: {recipe.tune}: it is not known which layers to tune here: state targets, some of {', '.join(endings)}"
    )


def _config(peft: Any, recipe: Recipe, targets: list[str]) -> Any:
    """The configuration of a method, with what of rank, alpha and dropout it has."""
    alpha = recipe.alpha or float(recipe.rank)
    rank: dict[str, Any] = {"r": recipe.rank, "target_modules": targets}
    with_dropout = {**rank, "lora_alpha": alpha, "lora_dropout": recipe.tune_dropout}
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "lora": ("LoraConfig", with_dropout),
        "dora": ("LoraConfig", {**with_dropout, "use_dora": True}),
        "loha": ("LoHaConfig", {**rank, "alpha": alpha, "rank_dropout": recipe.tune_dropout}),
        "lokr": ("LoKrConfig", {**rank, "alpha": alpha, "rank_dropout": recipe.tune_dropout}),
        "oft": ("OFTConfig", {**rank, "oft_block_size": 0, "module_dropout": recipe.tune_dropout}),
        "hra": ("HRAConfig", rank),
        "ia3": ("IA3Config", {"target_modules": targets, "feedforward_modules": []}),
        "delora": ("DeloraConfig", {**rank, "module_dropout": recipe.tune_dropout}),
        "ln_tuning": ("LNTuningConfig", {"target_modules": targets}),
    }
    name, options = known[recipe.tune]
    return getattr(peft, name)(**options)
