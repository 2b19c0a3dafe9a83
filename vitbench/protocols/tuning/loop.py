"""Training from the first step, or from where it was cut off, to the last: what `vitbench.protocols.finetune.train` is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitbench.lazy import lazy_module
from vitbench.protocols.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn

    from vitbench.protocols.tuning import training
    from vitbench.protocols.tuning.checkpoints import Place
else:
    training = lazy_module("vitbench.protocols.tuning.training")

READ_EVERY = 20  # steps between two looks at the loss: each waits for the device
HOPELESS_FROM = 0.5  # share of the steps after which a loss above chance is for good

Batches = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class TrainLog:
    """What a run left behind: one value a step (gradient norms before clipping), and the trained head.

    `diverged` says why a run ended early, or is empty.
    """

    losses: list[float]
    grad_norms: list[float]
    learning_rates: list[float]
    head: nn.Linear
    diverged: str = ""


def train(
    backbone: Any,
    batches: Batches | Callable[[int], Batches],
    num_classes: int,
    recipe: Recipe,
    *,
    dtype: str = "float32",
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
    place: Place | None = None,
) -> TrainLog:
    """Train a backbone in place on batches of images (B, 3, S, S), normalised, and labels (B,) or shares of classes (B, C).

    Takes one batch a step until `recipe.steps`; `batches` may be a function of the first step. `place` is where the state is
    kept, and found again by a run that was cut off.
    """
    trainer = training.Trainer(backbone, num_classes, recipe, dtype=dtype)
    kept = place.read(backbone) if place else None
    if kept is not None:
        trainer.restore(kept)
    backbone.train()
    diverged = ""
    coming = batches(trainer.steps_done) if callable(batches) else batches
    # The count comes first: zip must not take a batch that no step is for.
    for step, (images, labels) in zip(range(trainer.steps_done + 1, recipe.steps + 1), coming, strict=False):
        trainer.step(images, labels)
        if step % READ_EVERY == 0 or step == recipe.steps:
            diverged = _trouble(trainer.read()[0], recipe, num_classes)
            on_step(step, recipe.steps)
        if place:
            place.keep(trainer)
        if diverged:
            break
    trainer.finish()
    backbone.eval()
    losses, norms = trainer.read()
    rates = [recipe.learning_rate(step) for step in range(len(losses))]
    return TrainLog(losses, norms, rates, trainer.head, diverged)


def _trouble(losses: Sequence[float], recipe: Recipe, num_classes: int) -> str:
    """Why a run is not worth going on with: the loss is not a number, or above chance in the second half."""
    if not all(map(math.isfinite, losses[-READ_EVERY:])):
        first = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        return f"the loss is not finite from step {first} on"
    late = len(losses) >= max(HOPELESS_FROM * recipe.steps, 2 * READ_EVERY)
    if late and statistics.median(losses[-READ_EVERY:]) > 1.05 * math.log(num_classes):
        return f"the loss is above chance at step {len(losses)}"
    return ""
