"""The method behind a published row: which of our protocols its authors followed, on which task, at which image size."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, get_args

from vitbench.backbones.catalog import entry_of
from vitbench.core.job import Component, Job, SuiteContext, shots_of
from vitbench.core.registry import TASKS
from vitbench.protocols.recipes import Case, Choice, RecipeName, recipes_for
from vitbench.published import MEANS, TEST_SETS, PublishedRow, dataset_of
from vitbench.report.obstacles import Obstacle
from vitbench.report.published_match import is_about
from vitbench.report.published_steps import dropout_of, follows

# Labelled examples of a full data set (docs/protocols.md#vit-data-sets), and classes, which N-shot budgets multiply.
_EXAMPLES = {
    "imagenet": 1_281_167, "cifar10": 50_000, "cifar100": 50_000, "oxford_iiit_pet": 3_680, "oxford_flowers102": 1_020,
}  # fmt: skip
_CLASSES = {"imagenet": 1_000, "cifar10": 10, "cifar100": 100}
_VTAB_1K = 1_000
# Data sets of images below 96 x 96 px (docs/protocols.md#bit-hyper-rule); areas in square pixels for a recipe's criteria.
_SMALL = {"cifar10", "cifar100", "svhn", "eurosat", "dsprites_location", "dsprites_orientation"}
_SMALL_AREA, _LARGE_AREA = 32 * 32, 224 * 224


@dataclass(frozen=True)
class Method:
    """How a row's authors adapted: one of our protocols with its options, and a budget."""

    protocol: str
    options: dict[str, Any]
    budget: str

    @property
    def recipe(self) -> str:
        """The recipe of fine-tuning, '' for other protocols."""
        return str(self.options.get("recipe", "")) if self.protocol == "finetune" else ""

    @property
    def is_random(self) -> bool:
        """Whether another seed gives another result: solved probes draw nothing but the images of an N-shot budget."""
        return self.protocol in ("finetune", "linear_probe") or shots_of(self.budget) is not None

    @property
    def text(self) -> str:
        """The method in a few words."""
        return ", ".join(
            [self.protocol, *(f"{key} {value}" for key, value in self.options.items()), self.budget]
        )


def method_of(row: PublishedRow) -> Method | None:
    """The method whose steps a row's authors followed on most of its data sets."""
    datasets = [part for name in row.results for part in MEANS.get(name, (name,))]
    counts = {
        number: sum(follows(row, job, dataset) for dataset in datasets)
        for number, (_, job) in enumerate(_candidates(row.protocol))
    }
    best = max(counts, key=lambda number: counts[number])
    return _candidates(row.protocol)[best][0] if counts[best] else None


@cache
def _candidates(protocol: str) -> tuple[tuple[Method, Job], ...]:
    """All methods under the budgets that a published protocol may mean, each with a job as `follows` reads it."""
    shots = [f"{n}-shot" for n in re.findall(r"[1-9]\d*(?=-per-class|$)", protocol)]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("finetune", {"recipe": recipe}) for recipe in get_args(RecipeName) if recipe != "own"
    ]
    kinds.append(("finetune", {"recipe": "vpt", "tune": "vpt-shallow"}))
    kinds.append(("linear_probe", {"recipe": "dinov2"}))
    kinds += [(name, {}) for name in ("logistic_probe", "ridge_probe", "knn", "own_head")]
    found = []
    for budget in ("full", "1k", *shots):
        for name, options in kinds:
            blank = Component(name="", version="", label="")
            job = Job(
                suite=SuiteContext(name="", tasks=(), seeds=1), backbone=blank, task=blank, budget=budget, seed=0,
                protocol=Component(name=name, version="", label=name, options=options),
            )  # fmt: skip
            found.append((Method(name, options, budget), job))
    return tuple(found)


def task_of(row: PublishedRow, dataset: str) -> tuple[str, str]:
    """The registered task and the metric that a row's value is of; '' for the main metric, and for no task."""
    for entry in TASKS.entries():
        for metric in ("", "real", *TEST_SETS):
            if is_about(row, entry.name) and dataset_of(entry.name, metric) == dataset:
                return entry.name, metric
    return "", ""


def with_dropout(row: PublishedRow, weights: str, method: Method) -> Method:
    """The method with the dropout rate that a row states, if the recipe has another for its network."""
    stated = dropout_of(row)
    if stated is None or not weights:
        return method
    first = next(iter(row.results))
    recipe = recipe_choice(row, first, task_of(row, first)[0], weights, method).recipes[0]
    same = recipe.dropout == stated
    return method if same else replace(method, options={**method.options, "dropout": stated})


def image_size(
    row: PublishedRow, dataset: str, task: str, weights: str, method: Method
) -> tuple[int | None, list[Obstacle]]:
    """The image size of our run, and an obstacle if it is not the row's."""
    stated = row.resolution_of(dataset)
    if not isinstance(stated, int):
        return None, [Obstacle("not stated", f"{row.source.citation} does not state the image size")]
    ours = _recipe_size(row, dataset, task, weights, method) if method.recipe else stated
    patch = re.search(r"patch(\d+)", weights)
    filled = ours + -ours % int(patch.group(1)) if patch else ours
    if filled == stated or (dataset not in row.results and filled < stated):
        return filled, []  # of a mean, a row states the size of its large images
    if filled != ours:
        what = f"patches do not fill the row's {stated} px: vitbench takes {filled} px"
    else:
        what = f"recipe {method.recipe} has images of {ours} px here, the row of {stated} px"
    return filled, [Obstacle("departure", what)]


def _recipe_size(row: PublishedRow, dataset: str, task: str, weights: str, method: Method) -> int:
    size_px = recipe_choice(row, dataset, task, weights, method).recipes[0].size_px
    if size_px is None:
        raise ValueError(f"recipe {method.recipe} has no image size of its own")
    return size_px


def recipe_choice(row: PublishedRow, dataset: str, task: str, weights: str, method: Method) -> Choice:
    """The grid that a method's recipe has for a data set of a row, and how it departs from its source."""
    known = entry_of(f"timm:{weights}")
    params_m = (known and known.params_m) or row.params_m or 0
    examples = examples_of(dataset, method)
    area = _SMALL_AREA if dataset in _SMALL else _LARGE_AREA
    name: Any = method.recipe
    changes = {key: value for key, value in method.options.items() if key != "recipe"}
    return _choice(name, Case(task, examples, area, round(params_m * 1e6)), json.dumps(changes))


@lru_cache(maxsize=1024)
def _choice(name: RecipeName, case: Case, changes: str) -> Choice:
    """The grid of a recipe, made once for the many rows that share it: VPT's has 240 settings."""
    return recipes_for(name, case, json.loads(changes))


def examples_of(dataset: str, method: Method) -> int:
    """How many labelled examples of a data set a method's budget has, those that it chooses by included."""
    if shots := shots_of(method.budget):
        return shots * _CLASSES.get(dataset, 1)
    return _VTAB_1K if method.budget == "1k" else _EXAMPLES.get(dataset, _VTAB_1K)
