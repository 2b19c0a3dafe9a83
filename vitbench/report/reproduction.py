"""The suite that would measure a published row here, or what stands in the way (docs/reproduce.md).

A plan is made from the row alone: no data are read and nothing is downloaded. Its jobs are those that `published_match` would
compare with the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.job import shots_of
from vitbench.protocols.heads.recipe import named_heads
from vitbench.protocols.references import ALWAYS
from vitbench.published import MEANS, TEST_SETS, PublishedRow, dataset_of, published
from vitbench.report.obstacles import Obstacle, not_prepared, without_protocol, without_task, without_weights
from vitbench.report.published_match import weights_of
from vitbench.report.published_method import (
    Method,
    examples_of,
    image_size,
    method_of,
    recipe_choice,
    task_of,
    with_dropout,
)
from vitbench.report.published_steps import has_other_settings, is_top1, pixels_of

VTAB_TRAIN = 800  # of the 1,000 examples of a task: the trials of a grid are chosen by the rest
SEEDS = 3  # where the source does not say how many runs it has: fewer give no spread to judge by
# Departures that the recipe and the protocol do not state themselves (docs/protocols.md#known-departures).
_DEPARTURES: dict[str, tuple[str, ...]] = {
    "vit": ("the paper gives no warm-up: the released code's is used",),
    "vit-table2": (
        "the paper gives no warm-up: the released code's is used",
        "the size of ImageNet's images before the crop is not stated anywhere: 597 px are used",
    ),
    "vtab-light": ("the grid of learning rates and schedules is recalled, not read",),
}


@dataclass(frozen=True)
class PlannedValue:
    """One value of a row: the tasks that measure it, and what stands in the way; a mean needs several tasks."""

    dataset: str
    tasks: tuple[str, ...]
    metric: str = ""
    size_px: int | None = None
    obstacles: tuple[Obstacle, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """A plan for a row. `values` are in the order of the row; `seeds` those of the suite; `departures` do not hinder."""

    row: PublishedRow
    weights: str
    method: Method | None
    values: tuple[PlannedValue, ...]
    seeds: tuple[int, ...]
    departures: tuple[str, ...] = field(default=())

    @property
    def measurable(self) -> tuple[PlannedValue, ...]:
        """The values that can be measured and compared."""
        return tuple(value for value in self.values if not value.obstacles)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of all values that can be measured, each once."""
        return tuple(dict.fromkeys(task for value in self.measurable for task in value.tasks))

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """All that stands in the way of one value or another, each once."""
        return tuple(dict.fromkeys(obstacle for value in self.values for obstacle in value.obstacles))

    @property
    def seeds_text(self) -> str:
        """The seeds after a comma; empty if nothing in the method is random."""
        is_random = self.method is not None and self.method.is_random
        return f", seeds {', '.join(map(str, self.seeds))}" if is_random else ""

    @property
    def pixels_text(self) -> str:
        """How pixels are normalised, after a comma; empty if as the weights were trained with."""
        found = [f"{name} {', '.join(map(str, values))}" for name, values in pixels_of(self.row).items()]
        return "".join(f", {text}" for text in found)

    def suite(self, tasks: Sequence[str]) -> dict[str, Any]:
        """The contents of a suite file that measures these tasks."""
        method, row = self.method, self.row
        if method is None:
            raise ValueError(f"{row.id} has no method")  # a plan without one has no tasks either
        backbone: dict[str, Any] = {"name": f"timm:{self.weights}", **pixels_of(row), "label": row.model}
        sizes = {value.size_px for value in self.measurable}
        if not method.recipe:  # recipes have an image size of their own
            backbone["size_px"] = next(iter(sizes))
        return {
            "name": f"reproduce-{row.id}"[:100],
            "description": f"{row.model}, {row.pretrain_data}, as in {row.source.citation}",
            "published": [row.id],
            "budgets": [method.budget],
            "seeds": list(self.seeds),
            "backbones": [backbone],
            "tasks": [self._task(task) for task in tasks],
            "protocols": [{"name": method.protocol, **method.options}],
        }

    def _task(self, task: str) -> str | dict[str, Any]:
        """A task as a suite has it, with the further test sets that values are of."""
        values = (value for value in self.measurable if task in value.tasks)
        sets = [value.metric for value in values if value.metric in TEST_SETS]
        return {"name": task, "test_sets": sets} if sets else task


def find_row(row_id: str) -> PublishedRow:
    """The published row of an id.

    Raises:
        UsageError: there is none.
    """
    rows = {row.id: row for row in published()}
    if row_id not in rows:
        what = f"there is no published row {row_id!r}"
        raise UsageError(Problem(what, nearest=nearest(row_id, rows), next_step="vitbench list published"))
    return rows[row_id]


def plan_row(row: PublishedRow) -> Reproduction:
    """What would measure a row, value by value."""
    weights, method = weights_of(row), method_of(row)
    if method is not None:
        method = with_dropout(row, weights, method)
    common = [] if weights else [without_weights(row)]
    if method is None:
        common.append(without_protocol(row))
    values = tuple(_planned(row, name, weights, method, tuple(common)) for name in row.results)
    seeds = tuple(range(row.runs or SEEDS))
    departures = tuple(_departures(row, weights, method)) if method else ()
    return Reproduction(row, weights, method, values, seeds, departures)


def chosen_tasks(plan: Reproduction, wanted: Sequence[str]) -> tuple[str, ...]:
    """The tasks of a plan that are named, by our names or the row's; all if none is named.

    Raises:
        UsageError: a name is none of them.
    """
    names = {name: task for task in plan.tasks for name in (task, dataset_of(task))}
    strangers = [name for name in wanted if name not in names]
    if strangers:
        raise UsageError([_no_task(plan, name, names) for name in strangers])
    return tuple(dict.fromkeys(names[name] for name in wanted)) or plan.tasks


def _no_task(plan: Reproduction, name: str, names: Iterable[str]) -> Problem:
    """Why a task is none of the plan's: the row has no such value, or it cannot be measured."""
    hindered = [v for v in plan.values if v.obstacles and (name == v.dataset or name in v.tasks)]
    if hindered:
        return Problem(f"{name} of {plan.row.id} cannot be measured: {hindered[0].obstacles[0].what}")
    step = f"vitbench reproduce {plan.row.id} --dry-run"
    return Problem(f"{plan.row.id} has no task {name!r}", nearest=nearest(name, names), next_step=step)


def _planned(
    row: PublishedRow, name: str, weights: str, method: Method | None, common: tuple[Obstacle, ...]
) -> PlannedValue:
    """One value of a row, or a mean through the values that it is taken over."""
    if name not in MEANS:
        return _value(row, name, weights, method, common)
    parts = [_value(row, part, weights, method, common) for part in MEANS[name]]
    obstacles = dict.fromkeys(obstacle for part in parts for obstacle in part.obstacles)
    tasks = tuple(task for part in parts for task in part.tasks)
    sizes = [part.size_px for part in parts if part.size_px]
    return PlannedValue(name, tasks, "", max(sizes, default=None), tuple(obstacles))


def _value(
    row: PublishedRow, dataset: str, weights: str, method: Method | None, common: tuple[Obstacle, ...]
) -> PlannedValue:
    task, metric = task_of(row, dataset)
    obstacles = [*common, *_about_value(row, dataset, task)]
    if metric in TEST_SETS:
        obstacles += not_prepared(task, metric)
    size_px = None
    if not common and not obstacles and method is not None:
        size_px, more = image_size(row, dataset, task, weights, method)
        obstacles += more
    return PlannedValue(dataset, (task,) if task else (), metric, size_px, tuple(obstacles))


def _about_value(row: PublishedRow, dataset: str, task: str) -> Iterator[Obstacle]:
    if not task:
        yield without_task(dataset)
    if not is_top1(row, dataset):
        yield Obstacle("protocol", f"{dataset} is mean per-class accuracy there, and top-1 accuracy here")
    if has_other_settings(row, dataset):
        yield Obstacle("departure", f"no recipe has the settings that the row's note states: {row.note}")


def training_images(plan: Reproduction, tasks: Sequence[str]) -> int:
    """The images that fine-tuning passes backward for these tasks: of all trials of a grid, the final runs, and all seeds."""
    if plan.method is None or not plan.method.recipe:
        return 0
    total = 0
    for task in tasks:
        recipes = recipe_choice(plan.row, dataset_of(task), task, plan.weights, plan.method).recipes
        last = recipes[0].images(examples_of(dataset_of(task), plan.method))
        train = VTAB_TRAIN if plan.method.budget == "1k" else examples_of(dataset_of(task), plan.method)
        tried = [recipe.for_examples(train).images(train) for recipe in recipes] if len(recipes) > 1 else []
        total += sum(tried) + last
    return total * len(plan.seeds)


def _departures(row: PublishedRow, weights: str, method: Method) -> Iterator[str]:
    """What is known to differ from the source without standing in the way."""
    yield from _DEPARTURES.get(method.recipe or method.protocol, ())
    if method.recipe and weights:
        parts = [part for name in row.results for part in MEANS.get(name, (name,))]
        choices = [recipe_choice(row, part, task_of(row, part)[0], weights, method) for part in parts]
        yield from dict.fromkeys(choice.departs for choice in choices if choice.departs)
    yield from ALWAYS.get(method.protocol, ())
    if method.protocol == "linear_probe":
        yield from named_heads()[method.options["recipe"]]["departs"]
    if shots_of(method.budget) and method.recipe:
        yield "the images of each class are drawn by big_vision's rule, not by the source's"
    if "median" in row.statistic:
        yield f"the source prints a median, which is compared with a mean over seeds ({row.statistic})"
    if row.runs is None and method.is_random:
        yield f"the source does not state how many runs it has: {SEEDS} seeds are run here"
