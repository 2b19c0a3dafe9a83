"""Fine-tuning of all weights: a recipe for the task, a choice among its grid on validation, then a run on all labels."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from pydantic import Field

from vitbench.api import Adaptation, Adapted, Effort, Protocol, Split
from vitbench.core.errors import VitbenchError
from vitbench.core.job import PreprocessName
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Trial
from vitbench.core.registry import register_protocol
from vitbench.protocols.finetune.loop import TrainLog, train
from vitbench.protocols.recipes import (
    Case,
    Choice,
    Recipe,
    RecipeName,
    asks_for_area,
    book,
    recipes_for,
    spelled_out,
)

if TYPE_CHECKING:
    from vitbench.protocols.finetune import checkpoint, search
else:
    search = lazy_module("vitbench.protocols.finetune.search")
    checkpoint = lazy_module("vitbench.protocols.finetune.checkpoint")

__all__ = ["Finetune", "TrainLog", "train"]

SEEN_FOR_AREA = 16  # images whose median area tells small from large

HINTS = get_type_hints(Recipe, include_extras=True)
CAN_BE_OFF = frozenset(name for name, hint in HINTS.items() if type(None) in get_args(hint))


def _option(name: str) -> Any:
    """The type of the option that replaces a recipe's field: None keeps the field, `none` switches it off."""
    several = tuple[HINTS[name], ...] if name == "base_lr" else HINTS[name]  # type: ignore[valid-type]
    return HINTS[name] | several | (Literal["none"] if name in CAN_BE_OFF else None) | None


if TYPE_CHECKING:
    RecipeOptions = Protocol
else:
    _options = [(name, _option(name), None) for name in HINTS]
    RecipeOptions = make_dataclass("RecipeOptions", _options, bases=(Protocol,), frozen=True)


@register_protocol("finetune", version=4, source="arXiv 2010.11929 App. B.1.1; arXiv 1912.11370 sec. 3.3")
@dataclass(frozen=True)
class Finetune(RecipeOptions):
    """Fine-tuning of all weights, by the ViT paper's recipe, BiT's, VTAB's, or the suite's own.

    `recipe` names one of vitbench/protocols/recipes.yaml; any other option replaces that field of it, and several values of
    `base_lr` are a grid. Of a grid, each is trained on train and scored on validation, ties to the fewer steps and the smaller
    rate; then all that is labelled is trained on. A task's exclusions of flips and crops come before the recipe. `replicas`
    processes share each batch, each on a GPU of its own. Examples too few for a batch are gone through several times for it.
    """

    default_preprocess: ClassVar[PreprocessName] = "squash"
    trains_backbone: ClassVar[bool] = True

    recipe: RecipeName = "vit"
    replicas: Annotated[int, Field(ge=1, le=4096)] = 1

    def __post_init__(self) -> None:
        """See that every setting of the recipe makes sense with what the suite changes in it.

        Raises:
            ValueError: it does not.
        """
        for setting in book()[self.recipe]["settings"]:
            spelled_out(self.recipe, setting, self._changes(None))

    def depends_on_seed(self, budget: str) -> bool:
        """The order of examples is random under every budget."""
        del budget
        return True

    def adapt(self, data: Adaptation) -> Adapted:
        """Choose among the recipe's grid, then train a copy of the backbone on all that is labelled.

        Raises:
            VitbenchError: the backbone has nothing to train, or every run diverges.
        """
        module: Any = data.backbone
        if not any(weight.requires_grad for weight in module.parameters()):
            raise VitbenchError("the backbone has no weights to train: leave it to probes")
        recipes = search.filled(data, self._recipes(data))
        work = search.Search(data, checkpoint.Checkpoints(data.checkpoints))
        trials = search.with_scores(work, recipes) if len(recipes) > 1 else ()
        if trials and not any(trial.chosen for trial in trials):
            raise VitbenchError("every run diverged: give lower rates as base_lr")
        chosen = next((r for r, t in zip(recipes, trials, strict=False) if t.chosen), recipes[0])
        learned = (data.train,) if chosen.train_only else (data.train, data.val)
        everything = [split for split in learned if len(split)]
        backbone, log = work.train(chosen, everything, "final")
        if log.diverged:
            raise VitbenchError(f"{log.diverged}: lower base_lr {chosen.base_lr:g}")
        final = Trial(
            options=chosen.fields(), split="train", metric="loss", value=log.losses[-1], chosen=True,
            note="trained on train and validation" if len(everything) > 1 else "", curve=search.curve(log.losses),
        )  # fmt: skip
        return Adapted(
            backbone,
            log.head,
            True,
            (*trials, final),
            images_forward=work.forward,
            images_backward=work.backward,
        )

    def effort(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Effort:
        """Every trial's steps and validation, and the last run's steps."""
        recipes = self._choice(train, val, task, params, resolution_px).recipes
        trained = [recipe.batch_size * recipe.steps for recipe in recipes]
        if len(recipes) == 1 or not len(val):
            return Effort(0, trained[(len(recipes) - 1) // 2], recipes[0].size_px)
        last = recipes[0].batch_size * recipes[0].steps
        return Effort(len(val) * len(recipes), sum(trained) + last, recipes[0].size_px)

    def _recipes(self, data: Adaptation) -> tuple[Recipe, ...]:
        module: Any = data.backbone
        params = sum(weight.numel() for weight in module.parameters())
        choice = self._choice(data.train, data.val, data.task, params, data.resolution_px)
        if choice.departs:
            data.note(choice.departs)
        first = choice.recipes[0]
        for wanted, allowed, what in (
            (first.flip, data.flip, "flipped"),
            (first.crop != "none", data.crop, "cropped"),
        ):
            if wanted and not allowed:
                data.note(f"not {what}: the task's labels do not survive it")
        if len(choice.recipes) > 1 and not len(data.val):
            data.note("no validation data to choose on: the middle of the grid")
            return (choice.recipes[(len(choice.recipes) - 1) // 2],)
        return choice.recipes

    def _choice(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Choice:
        area = _area(train) if asks_for_area(self.recipe) else 0
        case = Case(task, len(train) + len(val), area, params)
        return recipes_for(self.recipe, case, self._changes(resolution_px))

    def _changes(self, resolution_px: int | None) -> dict[str, Any]:
        """What the suite puts in place of the recipe's fields; its resolution counts for more than the recipe's."""
        given = {name: value for name in HINTS if (value := getattr(self, name)) is not None}
        off = {name: None for name in CAN_BE_OFF if given.get(name) == "none"}
        changes = {**given, **off}
        return changes if resolution_px is None else {**changes, "size_px": resolution_px}


def _area(split: Split) -> int:
    """Median area of the first images, in square pixels."""
    first = split.source.read(split.indices[:SEEN_FOR_AREA].tolist())
    return int(statistics.median(image.shape[0] * image.shape[1] for image in first))
