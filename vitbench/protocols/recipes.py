"""Fine-tuning recipes: the named recipes of recipes.yaml, and the choice of a setting for a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from vitbench.protocols.recipe import GRID as GRID
from vitbench.protocols.recipe import Recipe as Recipe

FILE = Path(__file__).with_name("recipes.yaml")
RecipeName = Literal[
    "own",
    "vit",
    "vit-table2",
    "vit-released",
    "bit",
    "bit-released",
    "vtab-light",
    "vpt",
    "vpt-linear",
    "noah",
    "mae",
    "beit",
    "beit-22k",
    "deit3",
]


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


def tuning_of(options: Mapping[str, Any]) -> str:
    """Which parameters a fine-tuning job trains (`tune`), by its protocol's options or its recipe."""
    if stated := options.get("tune"):
        return str(stated)
    written = named_recipes().get(str(options.get("recipe", "")), {"common": {}, "settings": [{}]})
    return str({**written["common"], **written["settings"][0]}.get("tune", "all"))


def recipes_for(name: RecipeName, case: Case, changes: Mapping[str, Any]) -> Choice:
    """Return the grid of a named recipe for a task, with the suite's overrides: the first setting whose criteria match."""
    recipe = named_recipes()[name]
    setting = next(setting for setting in recipe["settings"] if _fits(setting, case))
    for more in recipe.get("for_networks", ()):
        setting = {**setting, **more} if _fits(more, case) else setting
    departures = (setting.get("departs"), recipe["common"].get("departs"))
    grid = tuple(each.for_examples(case.examples) for each in recipe_grid(name, setting, changes))
    return Choice(grid, "; ".join(filter(None, departures)))


def recipe_grid(
    name: RecipeName, setting: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Recipe, ...]:
    """Return the grid of one setting, ordered by steps and then by learning rate.

    Raises:
        ValueError: the fields of a recipe are inconsistent.
    """
    written = {**named_recipes()[name]["common"], **setting}
    changes = {**changes, **_scaled_resize(written, changes)}
    wanted = {**written, **changes}
    # Overriding steps leaves a single schedule, counted in steps.
    schedules = [{}] if "steps" in changes else wanted.get("schedules", [{}])
    if "steps" in changes:
        wanted |= _scaled_schedule(written, changes)
    elif wanted.get("epochs"):
        wanted |= {"steps": wanted["epochs"], "warmup_steps": wanted.get("warmup_epochs", 0)}
    found = []
    for schedule in schedules:
        for point in product(*(_several(wanted.get(field)) for field in GRID)):
            chosen = {key: v for key, v in zip(GRID, point, strict=True) if v is not _NOT_STATED}
            values = {**wanted, **schedule, **changes, **chosen}
            known = {key: _as_tuple(v) for key, v in values.items() if key in _FIELDS}
            found.append(Recipe(**known))
    return tuple(sorted(found, key=lambda recipe: (recipe.steps, recipe.base_lr)))


_NOT_STATED = object()  # a field of the grid for which the recipe states nothing


def _several(value: Any) -> list[Any]:
    if value is None:
        return [_NOT_STATED]
    return list(value) if isinstance(value, list | tuple) else [value]


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


def preprocess_of(name: RecipeName) -> str | None:
    """The preset by which a recipe's source prepares test images; None if it is the protocol's default."""
    found: str | None = named_recipes()[name].get("preprocess")
    return found


def sizes_of(name: RecipeName) -> set[int]:
    """All image sizes that a recipe's settings have, in pixels."""
    recipe = named_recipes()[name]
    return {part["size_px"] for part in (recipe["common"], *recipe["settings"]) if part.get("size_px")}


def uses_image_area(name: RecipeName) -> bool:
    """Return whether a recipe's settings depend on the image area, so that images must be read to choose one."""
    return any("area_below" in setting for setting in named_recipes()[name]["settings"])


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _scaled_schedule(written: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return warm-up and decay steps scaled in proportion to overridden `steps`, but for those that are overridden too."""
    if written.get("epochs"):
        warmup = int(changes["steps"] * written.get("warmup_epochs", 0) / written["epochs"])
        off = {"epochs": None, "warmup_epochs": 0, "rate_lag": 0, "last_batch": "span"}
        return {"warmup_steps": warmup, **off}
    written = {**written, **(written.get("schedules") or [{}])[0]}
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
