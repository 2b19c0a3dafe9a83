"""Recipes of fine-tuning: a Recipe, the named ones of recipes.yaml, and which of one's settings a task gets."""

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


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum and no weight decay; `cosine` or `staircase` decay after linear warm-up (protocols.md 3.1, 4.1).

    The fields are the options of `finetune`, within the limits that they are annotated with. A staircase falls to a tenth at
    each of `decay_steps`, from the step after it on, as in BiT's released code. `clip_norm` bounds the global norm of the
    gradients. With `averaging`, the result is a Polyak average of the weights with this factor. `size_px` of None keeps the
    backbone's image size; `crop: random` cuts squares from images resized to `resize_px`. With `train_only`, validation data
    are used for selection and never trained on.

    Raises:
        ValueError: its fields do not go together.
    """

    steps: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    base_lr: Rate
    batch_size: Positive = 512
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
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
    train_only: bool = False

    def __post_init__(self) -> None:
        """Fields that do not go together."""
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} are more than steps {self.steps}")
        if self.decay == "staircase" and not self.decay_steps:
            raise ValueError("decay: staircase needs decay_steps")
        if self.crop == "random" and self.resize_px is None:
            raise ValueError("crop: random needs resize_px, the size that it cuts from")
        if self.crop == "random" and (self.size_px or 0) > (self.resize_px or 0):
            raise ValueError(
                f"crop: random cannot cut size_px {self.size_px} from resize_px {self.resize_px}"
            )

    def learning_rate(self, step: int) -> float:
        """Rate at a step, counted from 0; with warm-up the first is 0 (VJ vit_jax/utils.py:57-96)."""
        warm = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "staircase":
            # During warm-up nothing decays (BT bit_hyperrule.py:54-62).
            falls = sum(step > boundary for boundary in self.decay_steps) if warm == 1.0 else 0
            return self.base_lr * warm * 0.1**falls
        decaying = max(self.steps - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / decaying, 0.0), 1.0)
        return self.base_lr * 0.5 * (1.0 + math.cos(math.pi * progress)) * warm

    def fields(self) -> dict[str, Any]:
        """All of it, for the record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


_FIELDS = {field.name for field in fields(Recipe)}


@dataclass(frozen=True)
class Case:
    """What a setting is chosen by: a task's name, labelled examples and images' area in px^2, a backbone's parameters."""

    task: str
    examples: int
    area: int
    params: int = 0


@dataclass(frozen=True)
class Choice:
    """The recipes to choose among, smallest change first, and where the choice departs from its source."""

    recipes: tuple[Recipe, ...]
    departs: str = ""


@cache
def book() -> dict[str, dict[str, Any]]:
    """All recipes as written."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def recipes_for(name: RecipeName, case: Case, changes: Mapping[str, Any]) -> Choice:
    """A named recipe for a task, with what the suite changes in it; grids are ordered by steps and then by rate."""
    setting = next(setting for setting in book()[name]["settings"] if _fits(setting, case))
    return Choice(
        spelled_out(name, setting, changes),
        setting.get("departs") or book()[name]["common"].get("departs", ""),
    )


def spelled_out(
    name: RecipeName, setting: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Recipe, ...]:
    """The grid of one setting, ordered by steps and then by rate.

    Raises:
        ValueError: fields do not go together.
    """
    wanted = {**book()[name]["common"], **setting, **changes}
    changes = {**changes, **_in_proportion({**book()[name]["common"], **setting}, changes)}
    # A suite that names steps has one schedule.
    schedules = [{}] if "steps" in changes else wanted.get("schedules", [{}])
    if "steps" in changes:
        wanted |= _paced(setting, changes)
    rates = wanted["base_lr"] if isinstance(wanted["base_lr"], list | tuple) else [wanted["base_lr"]]
    found = []
    for schedule in schedules:
        for rate in rates:
            spelled = {**wanted, **schedule, **changes, "base_lr": rate}
            known = {key: _tupled(value) for key, value in spelled.items() if key in _FIELDS}
            found.append(Recipe(**known))
    return tuple(sorted(found, key=lambda recipe: (recipe.steps, recipe.base_lr)))


def _in_proportion(written: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The size before the crop, where a suite changes the one after it alone: as much larger as the recipe has it."""
    before, after = written.get("resize_px"), written.get("size_px")
    if "size_px" not in changes or "resize_px" in changes or not before or not after:
        return {}
    return {"resize_px": round(changes["size_px"] * before / after)}


def asks_for_area(name: RecipeName) -> bool:
    """Whether a recipe tells small images from large: only then need any be looked at beforehand."""
    return any("area_below" in setting for setting in book()[name]["settings"])


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _paced(setting: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Warm-up and decay in proportion where a suite asks for other steps, unless it names them too."""
    written = {**setting, **(setting.get("schedules") or [{}])[0]}
    share = changes["steps"] / written["steps"]
    paced = {"warmup_steps": int(written.get("warmup_steps", 0) * share)}
    if "decay_steps" in written:
        paced["decay_steps"] = tuple(int(step * share) for step in written["decay_steps"])  # type: ignore[assignment]
    return {name: value for name, value in paced.items() if name not in changes}


def _fits(setting: Mapping[str, Any], case: Case) -> bool:
    return (
        any(fnmatchcase(case.task, pattern) for pattern in setting.get("tasks", ["*"]))
        and case.examples < setting.get("examples_below", case.examples + 1)
        and case.area < setting.get("area_below", case.area + 1)
        and setting.get("params_above", -1) < case.params < setting.get("params_below", case.params + 1)
    )
