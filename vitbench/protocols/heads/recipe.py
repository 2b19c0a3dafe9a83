"""Recipes of heads: optimiser, schedule, augmentation, and the grid of heads that are trained together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from vitbench.protocols.recipe import NotNegative, Positive, Rate, Recipe

FILE = Path(__file__).with_name("recipes.yaml")
SCALED_TO = (
    256  # images, for which a base rate is stated; DN:dinov2/eval/linear.py, scale_lr; MAE:main_linprobe.py
)

Kind = Literal["linear", "attentive"]  # of heads

_INPUT = re.compile(r"features|mean|tokens|patches|class(-[1-9]\d*)?(\+mean)?")


def _known_input(name: str) -> str:
    if _INPUT.fullmatch(name):
        return name
    raise ValueError(
        f"unknown {name!r}: linear heads read class, class-N (of the last N blocks), either with +mean, mean, or features; "
        "attentive ones patches or tokens"
    )


Input = Annotated[str, AfterValidator(_known_input)]


@dataclass(frozen=True)
class Point:
    """One head of a grid: what it reads, its base rate and its weight decay."""

    reads: str
    base_lr: float
    weight_decay: float

    def fields(self) -> dict[str, Any]:
        """The choices by the names of options, for the record."""
        return {"inputs": self.reads, "base_lr": self.base_lr, "weight_decay": self.weight_decay}


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained: SGD with momentum, LARS or AdamW, on random resized crops (docs/protocols.md#linear-probe).

    The rate of a head is `base_lr` for 256 images, in proportion to the batch, times a cosine from 1 to 0 after linear warm-up;
    `cosine-ends` reaches both ends, as NumPy's linspace does. Several values of `base_lr`, `weight_decay` and `inputs` make a
    grid. `epochs` takes the place of `steps`, and `warmup_epochs` of `warmup_steps`, which then follow from the number of
    examples; the last batch of an epoch is left out. `batch_norm` normalises what a linear head reads by its mean and variance
    over so many images of a batch, without gains (0: not at all). Weights start from a normal distribution with `init_std`,
    biases at 0. `momentum` is AdamW's first beta, too, and `eps` its epsilon. Biases are not decayed, nor vectors under LARS.

    Raises:
        ValueError: the fields are inconsistent.
    """

    steps: Positive
    base_lr: tuple[Rate, ...]
    inputs: tuple[Input, ...]
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    epochs: Positive | None = None
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive = 1024
    weight_decay: tuple[NotNegative, ...] = (0.0,)
    optimiser: Literal["sgd", "lars", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Rate = 1e-8
    decay: Literal["cosine", "cosine-ends"] = "cosine"
    batch_norm: Annotated[int, Field(ge=0)] = 0
    init_std: Rate = 0.01
    size_px: Positive | None = 224
    crop: Literal["none", "inception", "random_resized", "random_resized_once"] = "random_resized"
    flip: bool = True

    def __post_init__(self) -> None:
        """Check that the fields are consistent."""
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if not all((self.base_lr, self.weight_decay, self.inputs)):
            raise ValueError("base_lr, weight_decay and inputs need one value or more")

    def points(self) -> tuple[Point, ...]:
        """The grid, in the order that ties are decided by: by input, then rate, then decay."""
        return tuple(Point(*values) for values in product(self.inputs, self.base_lr, self.weight_decay))

    def for_examples(self, examples: int) -> HeadRecipe:
        """The recipe with the steps that its epochs take over so many examples, in batches of no more than there are."""
        if not self.epochs:
            return self
        batch = min(self.batch_size, examples)
        each = examples // batch
        return replace(
            self, batch_size=batch, steps=each * self.epochs, warmup_steps=each * self.warmup_epochs
        )

    def factor(self, step: int) -> float:
        """What the rates of all heads are multiplied by at a step, counted from 0."""
        warmup, last = self.warmup_steps, self.steps - self.warmup_steps
        at_ends = self.decay == "cosine-ends"  # CAPI:eval_classification.py, lr_schedule
        if step < warmup:
            return step / max(warmup - at_ends, 1)
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(last - at_ends, 1)))

    def rate(self, base_lr: float, step: int) -> float:
        """The learning rate of a head at a step, counted from 0."""
        return base_lr * self.batch_size / SCALED_TO * self.factor(step)

    def of_images(self) -> Recipe:
        """What batches of images depend on, as a recipe of fine-tuning."""
        passes = {"epochs": self.epochs, "last_batch": "drop"} if self.epochs else {}
        shown: dict[str, Any] = {
            "batch_size": self.batch_size,
            "crop": self.crop,
            "flip": self.flip,
            **passes,
        }
        return Recipe(steps=self.steps, warmup_steps=0, base_lr=1.0, **shown)

    def fields(self) -> dict[str, Any]:
        """All fields as JSON-compatible values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@cache
def named_heads() -> dict[str, dict[str, Any]]:
    """The recipes of recipes.yaml by name, unchanged."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def recipe_of(name: str, changes: Mapping[str, Any]) -> HeadRecipe:
    """A named recipe with a suite's overrides. Overriding `steps` or `epochs` scales the warm-up.

    Raises:
        ValueError: the fields are inconsistent.
    """
    written = dict(named_heads()[name]["fields"])
    warm = written.pop("warmup_epochs", written.get("warmup_steps", 0)) / (
        written.get("epochs") or written["steps"]
    )
    if "steps" in changes:
        written |= {"epochs": None, "warmup_steps": int(changes["steps"] * warm)}
    elif epochs := changes.get(
        "epochs", written.get("epochs")
    ):  # the steps follow from the number of examples
        written |= {"steps": 1, "warmup_steps": 0, "warmup_epochs": int(epochs * warm)}
    wanted = {**written, **changes}
    known = {field.name for field in fields(HeadRecipe)}
    return HeadRecipe(**{key: _as_grid(key, value) for key, value in wanted.items() if key in known})


def _as_grid(name: str, value: Any) -> Any:
    if name not in ("base_lr", "weight_decay", "inputs"):
        return value
    return tuple(value) if isinstance(value, list | tuple) else (value,)
