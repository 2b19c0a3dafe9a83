"""The fine-tuning protocol: picks the recipe for a task, searches its grid on validation, and trains on all labelled data."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import Field

from vitbench.api import Adaptation, Adapted, Backbone, Effort, Protocol, Split
from vitbench.core.entry import Added
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job, PreprocessName
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import ScoreKind, Trial
from vitbench.core.registry import register_protocol
from vitbench.protocols.finetune.loop import TrainLog, train
from vitbench.protocols.recipes import (
    GRID,
    Case,
    Choice,
    Recipe,
    RecipeName,
    departures_for,
    named_recipes,
    preprocess_of,
    recipe_grid,
    recipes_for,
    sizes_of,
    uses_image_area,
)

# By other names than the modules': these would be what `from vitbench.protocols.finetune import search` finds.
if TYPE_CHECKING:
    from vitbench.protocols.finetune import checkpoint as checkpoint_module
    from vitbench.protocols.finetune import search as search_module
else:
    search_module = lazy_module("vitbench.protocols.finetune.search")
    checkpoint_module = lazy_module("vitbench.protocols.finetune.checkpoint")

__all__ = ["Finetune", "TrainLog", "train"]

AREA_SAMPLE = 16  # images whose median area decides between a recipe's settings for small and large images


def _parts(hint: Any) -> tuple[Any, ...]:
    """The parts of a union, in an annotation or not."""
    return get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint)


HINTS = get_type_hints(Recipe, include_extras=True)
CAN_BE_OFF = frozenset(name for name, hint in HINTS.items() if type(None) in _parts(hint))


def _option(name: str) -> Any:
    """Return the type of the option that overrides a recipe's field: None keeps the field, `none` switches it off."""
    several = tuple[HINTS[name], ...] if name in GRID else HINTS[name]  # type: ignore[valid-type]
    found = HINTS[name] | several | (Literal["none"] if name in CAN_BE_OFF else None) | None
    is_added = any(isinstance(part, Added) for part in get_args(HINTS[name]))
    return Annotated[found, Added()] if is_added else found


if TYPE_CHECKING:
    RecipeOptions = Protocol
else:
    _options = [(name, _option(name), None) for name in HINTS]
    RecipeOptions = make_dataclass("RecipeOptions", _options, bases=(Protocol,), frozen=True)


@register_protocol("finetune", version=6, source="arXiv 2010.11929 App. B.1.1; arXiv 1912.11370 sec. 3.3")
@dataclass(frozen=True)
class Finetune(RecipeOptions):
    """Fine-tuning of all weights or of a few, by the recipe of ViT, BiT, VTAB, VPT, NOAH, MAE, BEiT, DeiT III or the suite.

    `recipe` names a recipe in vitbench/protocols/recipes.yaml. Any other option overrides that field of the recipe; several
    values of `base_lr`, `weight_decay` or `prompt_tokens` make a grid. Each setting of a grid is trained on train and scored on
    validation, with ties broken by fewer steps and then by the smaller learning rate; the best is trained again on train and
    validation. If a task rules out flips or crops, they are skipped whatever the recipe says. `replicas` GPUs train
    data-parallel, each on its part of every batch. If there are fewer examples than a batch holds, a batch repeats them, where
    the recipe counts steps.
    """

    default_preprocess: ClassVar[PreprocessName] = "squash"
    trains_backbone: ClassVar[bool] = True
    score_kind: ClassVar[ScoreKind] = "logits"

    recipe: RecipeName = "vit"
    replicas: Annotated[int, Field(ge=1, le=4096)] = 1

    def __post_init__(self) -> None:
        """Check every setting of the recipe with the suite's overrides.

        Raises:
            ValueError: the fields of a setting are inconsistent.
        """
        for setting in named_recipes()[self.recipe]["settings"]:
            recipe_grid(self.recipe, setting, self._changes(None))

    def depends_on_seed(self, budget: str) -> bool:
        """Return True: the order of examples is random under every budget."""
        del budget
        return True

    def departures(self, job: Job) -> tuple[str, ...] | None:
        """What the suite changes of the recipe, what the recipe's source says nothing of, or other preprocessing."""
        if self.recipe == "own":
            return None
        changed = self._changes(None)
        wanted = preprocess_of(self.recipe) or self.default_preprocess
        found = (
            [] if job.preprocess == wanted else [f"preprocessing `{job.preprocess}` instead of `{wanted}`"]
        )
        found += departures_for(self.recipe, job.task.spec)
        if changed:
            found.append(f"the suite states {', '.join(changed)}")
        if job.resolution_px is not None and job.resolution_px not in sizes_of(self.recipe):
            found.append(f"images of {job.resolution_px} px")
        return tuple(found)

    def warm_up(self, device: str) -> None:
        """Import the trainer, which takes seconds."""
        from vitbench.protocols.finetune import trainer

        del device, trainer

    def adapt(self, data: Adaptation) -> Adapted:
        """Search the recipe's grid on validation, then train a copy of the backbone on all labelled data.

        Raises:
            VitbenchError: the backbone has no trainable weights, every trial diverges, or the final run does.
        """
        module: Any = data.backbone
        if not any(weight.requires_grad for weight in module.parameters()):
            raise VitbenchError(
                "the backbone has no weights to train: use a probe (ridge_probe, logistic_probe, knn)"
            )
        recipes = search_module.snap_to_patches(data, self._recipes(data))
        with checkpoint_module.Checkpoints(data.checkpoints) as checkpoints:
            runs = search_module.Search(data, checkpoints)
            trials = search_module.run_trials(runs, recipes) if len(recipes) > 1 else ()
            if trials and not any(trial.chosen for trial in trials):
                raise VitbenchError("every run diverged: try lower values of base_lr")
            chosen = next((r for r, t in zip(recipes, trials, strict=False) if t.chosen), recipes[0])
            parts = (data.train,) if chosen.train_only else (data.train, data.val)
            splits = [split for split in parts if len(split)]
            backbone, log = runs.train(chosen, splits, "final")
        if log.diverged:
            raise VitbenchError(
                f"the final run diverged: {log.diverged}; lower base_lr, now {chosen.base_lr:g}"
            )
        final = Trial(
            options=chosen.fields(), split="train", metric="loss", value=log.losses[-1], chosen=True,
            note="trained on train and validation" if len(splits) > 1 else "", curve=search_module.loss_curve(log.losses),
        )  # fmt: skip
        return Adapted(
            backbone,
            log.head,
            True,
            (*trials, final),
            images_forward=runs.forward,
            images_backward=runs.backward,
            trained_parameters=log.trained_parameters,
        )

    def effort(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Effort:
        """Return the images of all trials with their validation, and of a final run (of the recipe with the fewest steps)."""
        recipes = self._choice(train, val, task, params, resolution_px).recipes
        last = [recipe.for_examples(n).images(n) for recipe in recipes for n in [_final(recipe, train, val)]]
        if len(recipes) == 1 or not len(val):
            return Effort(0, last[(len(recipes) - 1) // 2], recipes[0].size_px)
        trained = [recipe.for_examples(len(train)).images(len(train)) for recipe in recipes]
        return Effort(len(val) * len(recipes), sum(trained) + last[0], recipes[0].size_px, len(recipes) + 1)

    def step_flops(self, built: Callable[[], Backbone]) -> int | None:
        """Return the FLOPs of a forward pass and of what a backward pass computes where few parameters are trained."""
        settings = named_recipes()[self.recipe]["settings"]
        grid = recipe_grid(self.recipe, settings[0], self._changes(None))
        ways = {(each.tune, each.prompt_tokens, each.rank, each.targets): each for each in grid}
        if {each.tune for each in ways.values()} == {"all"}:
            return None
        found = [search_module.step_flops(built(), each) for each in ways.values()]
        known = [each for each in found if each is not None]
        return round(statistics.fmean(known)) if len(known) == len(found) else None

    def _recipes(self, data: Adaptation) -> tuple[Recipe, ...]:
        module: Any = data.backbone
        params = sum(weight.numel() for weight in search_module.trainable(module).parameters())
        choice = self._choice(data.train, data.val, data.task, params, data.resolution_px)
        if choice.departs:
            data.note(choice.departs)
        for text in search_module.left_out(data, choice.recipes[0]):
            data.note(text)
        if len(choice.recipes) > 1 and not len(data.val):
            data.note("no validation data to choose on: used the middle of the grid")
            return (choice.recipes[(len(choice.recipes) - 1) // 2],)
        return choice.recipes

    def _choice(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Choice:
        area = _area(train) if uses_image_area(self.recipe) else 0
        case = Case(task, len(train) + len(val), area, params)
        return recipes_for(self.recipe, case, self._changes(resolution_px))

    def _changes(self, resolution_px: int | None) -> dict[str, Any]:
        """Return the suite's overrides of the recipe's fields; a resolution in the suite overrides `size_px`."""
        given = {name: value for name in HINTS if (value := getattr(self, name)) is not None}
        off = {name: None for name in CAN_BE_OFF if given.get(name) == "none"}
        changes = {**given, **off}
        return changes if resolution_px is None else {**changes, "size_px": resolution_px}


def _final(recipe: Recipe, train: Split, val: Split) -> int:
    """The number of examples that the final run trains on."""
    return len(train) + (0 if recipe.train_only else len(val))


def _area(split: Split) -> int:
    """Return the median area of the first images, in square pixels."""
    images = split.source.read(split.indices[:AREA_SAMPLE].tolist())
    return int(statistics.median(image.shape[0] * image.shape[1] for image in images))
