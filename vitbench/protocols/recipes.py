"""Fine-tuning recipes: the Recipe class, the named recipes of recipes.yaml, and the choice of a setting for a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

FILE = Path(__file__).with_name("recipes.yaml")
RecipeName = Literal["own", "vit", "vit-table2", "vit-released", "bit", "bit-released", "vtab-light"]


Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Recipe:
    """Momentum SGD or AdamW; `cosine` or `staircase` after linear warm-up (docs/protocols.md#optimiser-details).

    The fields are the options of `finetune`, with the ranges of their annotations. The staircase schedule divides the learning
    rate by ten after each of `decay_steps`, from the next step on, as in BiT's released code. `clip_norm` bounds the global
    gradient norm. `momentum` is AdamW's first beta, too. `weight_decay` is coupled to the gradient in SGD and decoupled in
    AdamW; vectors are not decayed. `layer_decay` multiplies the rate once for each layer above a weight. `dropout` of
    activations, `attention_dropout` and `stochastic_depth` (growing linearly from the first block to this in the last) are
    probabilities. `label_smoothing` spreads that part of the target over all classes equally.

    With `averaging`, the result is a Polyak average of the weights with this factor. A `size_px` of None keeps the backbone's
    image size; `crop: random` crops squares of `size_px` from images resized to `resize_px`. With `train_only`, validation
    data are used for selection only, not for training.

    Raises:
        ValueError: the fields are inconsistent.
    """

    steps: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    base_lr: Rate
    batch_size: Positive = 512
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip_norm: Rate | None = 1.0
    decay: Literal["cosine", "staircase"] = "cosine"
    decay_steps: tuple[Positive, ...] = ()
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    size_px: Positive | None = None
    resize_px: Positive | None = None
    crop: Literal["none", "random", "inception"] = "none"
    flip: bool = False
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Probability = 0.0
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    stochastic_depth: Probability = 0.0
    train_only: bool = False

    def __post_init__(self) -> None:
        """Check that the fields are consistent."""
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.decay == "staircase" and not self.decay_steps:
            raise ValueError("decay: staircase needs decay_steps")
        if self.momentum_dtype == "bfloat16" and (self.optimiser != "sgd" or self.weight_decay):
            raise ValueError("momentum_dtype: bfloat16 needs optimiser: sgd without weight_decay")
        if self.crop == "random" and self.resize_px is None:
            raise ValueError("crop: random needs resize_px, the image size before the crop")
        if self.crop == "random" and (self.size_px or 0) > (self.resize_px or 0):
            raise ValueError(
                f"crop: random cannot cut size_px {self.size_px} from resize_px {self.resize_px}"
            )

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0; with warm-up it starts at 0 (VJ:vit_jax/utils.py:57-96)."""
        warm = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "staircase":
            # No decay during warm-up (BT:bit_hyperrule.py:54-62).
            falls = sum(step > boundary for boundary in self.decay_steps) if warm == 1.0 else 0
            return self.base_lr * warm * 0.1**falls
        decaying = max(self.steps - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / decaying, 0.0), 1.0)
        return self.base_lr * 0.5 * (1.0 + math.cos(math.pi * progress)) * warm

    def fields(self) -> dict[str, Any]:
        """Return all fields as JSON-compatible values, for the record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


_FIELDS = {field.name for field in fields(Recipe)}


@dataclass(frozen=True)
class Case:
    """The criteria for a setting: task name, number of labelled examples, image area in px^2, parameters of the backbone."""

    task: str
    examples: int
    area: int
    params: int = 0


@dataclass(frozen=True)
class Choice:
    """A grid of recipes, ordered by steps and then by learning rate, and how it departs from its source, if it does."""

    recipes: tuple[Recipe, ...]
    departs: str = ""


@cache
def named_recipes() -> dict[str, dict[str, Any]]:
    """Return the recipes of recipes.yaml by name, unchanged."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def recipes_for(name: RecipeName, case: Case, changes: Mapping[str, Any]) -> Choice:
    """Return the grid of a named recipe for a task, with the suite's overrides: the first setting whose criteria match."""
    recipe = named_recipes()[name]
    setting = next(setting for setting in recipe["settings"] if _fits(setting, case))
    for more in recipe.get("for_networks", ()):
        setting = {**setting, **more} if _fits(more, case) else setting
    departures = (setting.get("departs"), recipe["common"].get("departs"))
    return Choice(recipe_grid(name, setting, changes), "; ".join(filter(None, departures)))


def recipe_grid(
    name: RecipeName, setting: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Recipe, ...]:
    """Return the grid of one setting, ordered by steps and then by learning rate.

    Raises:
        ValueError: the fields of a recipe are inconsistent.
    """
    wanted = {**named_recipes()[name]["common"], **setting, **changes}
    changes = {**changes, **_scaled_resize({**named_recipes()[name]["common"], **setting}, changes)}
    # Overriding steps leaves a single schedule.
    schedules = [{}] if "steps" in changes else wanted.get("schedules", [{}])
    if "steps" in changes:
        wanted |= _scaled_schedule(setting, changes)
    rates = wanted["base_lr"] if isinstance(wanted["base_lr"], list | tuple) else [wanted["base_lr"]]
    found = []
    for schedule in schedules:
        for rate in rates:
            values = {**wanted, **schedule, **changes, "base_lr": rate}
            known = {key: _as_tuple(value) for key, value in values.items() if key in _FIELDS}
            found.append(Recipe(**known))
    return tuple(sorted(found, key=lambda recipe: (recipe.steps, recipe.base_lr)))


def _scaled_resize(written: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `resize_px` in the recipe's proportion to `size_px`, if the suite overrides `size_px` alone; else nothing."""
    before, after = written.get("resize_px"), written.get("size_px")
    if "size_px" not in changes or "resize_px" in changes or not before or not after:
        return {}
    return {"resize_px": round(changes["size_px"] * before / after)}


def departures_for(name: RecipeName, task: str) -> tuple[str, ...]:
    """How a recipe departs from its source whatever the data: as a whole, or because the source says nothing of the task."""
    recipe = named_recipes()[name]
    fitting = [s for s in recipe["settings"] if _names(s, task)]
    said = {setting.get("departs") for setting in fitting}
    if "tasks" in fitting[0] or None in said:
        own = fitting[0].get("departs") if "tasks" in fitting[0] else None
    else:
        own = min(said) if len(said) == 1 else "the source has no setting for this task"
    return tuple(filter(None, (recipe["common"].get("departs"), own)))


def sizes_of(name: RecipeName) -> set[int]:
    """All image sizes that a recipe's settings have, in pixels."""
    recipe = named_recipes()[name]
    return {part["size_px"] for part in (recipe["common"], *recipe["settings"]) if part.get("size_px")}


def uses_image_area(name: RecipeName) -> bool:
    """Return whether a recipe's settings depend on the image area, so that images must be read to choose one."""
    return any("area_below" in setting for setting in named_recipes()[name]["settings"])


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _scaled_schedule(setting: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return warm-up and decay steps scaled in proportion to overridden `steps`, but for those that are overridden too."""
    written = {**setting, **(setting.get("schedules") or [{}])[0]}
    ratio = changes["steps"] / written["steps"]
    scaled = {"warmup_steps": int(written.get("warmup_steps", 0) * ratio)}
    if "decay_steps" in written:
        scaled["decay_steps"] = tuple(int(step * ratio) for step in written["decay_steps"])  # type: ignore[assignment]
    return {name: value for name, value in scaled.items() if name not in changes}


def _fits(setting: Mapping[str, Any], case: Case) -> bool:
    return (
        _names(setting, case.task)
        and case.examples < setting.get("examples_below", case.examples + 1)
        and case.area < setting.get("area_below", case.area + 1)
        and setting.get("params_above", -1) < case.params < setting.get("params_below", case.params + 1)
    )


def _names(setting: Mapping[str, Any], task: str) -> bool:
    return any(fnmatchcase(task, pattern) for pattern in setting.get("tasks", ["*"]))
