"""Training from the first step, or from where it was cut off, to the last: what `vitbench.protocols.finetune.train` is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitbench.protocols.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn

    from vitbench.protocols.finetune.checkpoint import Checkpoint
    from vitbench.protocols.finetune.trainer import Trainer

READ_EVERY = 20  # steps between two looks at the loss: each waits for the device
HOPELESS_FROM = 0.5  # share of the steps after which a loss above chance is for good
LOST_FROM, LOST = 0.1, 3.0  # and after which so many times chance is: the rate only begins to fall

Batches = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class TrainLog:
    """What a run left behind: one value a step (gradient norms before clipping), and the trained head.

    `diverged` says why a run ended early, or is empty. `at_once` images of a batch went through together in each process, and
    that is what BatchNorm takes its statistics of, if there is one (`batch_norm_sees`, else 0).
    """

    losses: list[float]
    grad_norms: list[float]
    learning_rates: list[float]
    head: nn.Linear
    diverged: str = ""
    at_once: int = 0
    batch_norm_sees: int = 0


def train(
    backbone: Any,
    batches: Batches | Callable[[int], Batches],
    num_classes: int,
    recipe: Recipe,
    *,
    dtype: str = "float32",
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
    place: Checkpoint | None = None,
) -> TrainLog:
    """Train a backbone in place on batches of images (B, 3, S, S), normalised, and labels (B,) or shares of classes (B, C).

    Takes one batch a step until `recipe.steps`; `batches` may be a function of the first step. `place` is where the state is
    kept, and found again by a run that was cut off. Of several processes each is given whole batches, or its own part of them
    and, third, how many images the whole has.
    """
    from vitbench.protocols.finetune.trainer import Trainer

    trainer = Trainer(backbone, num_classes, recipe, dtype=dtype)
    if place and (kept := place.read()) is not None:
        trainer.restore(kept)
        del kept
    trainer.model.train()
    diverged = _trouble(trainer.read()[0], recipe, num_classes) if trainer.steps_done else ""
    if diverged:  # found before it was cut off
        return _ended(trainer, backbone, recipe, diverged)
    coming = batches(trainer.steps_done) if callable(batches) else batches
    # The count comes first: zip must not take a batch that no step is for.
    for step, batch in zip(range(trainer.steps_done + 1, recipe.steps + 1), coming, strict=False):
        trainer.step(*batch)
        if step % READ_EVERY == 0 or step == recipe.steps:
            diverged = _trouble(trainer.read()[0], recipe, num_classes)
            on_step(step, recipe.steps)
        if place:
            place.keep(trainer)
        if diverged:
            break
    return _ended(trainer, backbone, recipe, diverged)


def _ended(trainer: Trainer, backbone: Any, recipe: Recipe, diverged: str) -> TrainLog:
    trainer.finish()
    backbone.eval()
    losses, norms = trainer.read()
    rates = [recipe.learning_rate(step) for step in range(len(losses))]
    sees = trainer.at_once if trainer.has_batch_norm else 0
    return TrainLog(losses, norms, rates, trainer.head, diverged, trainer.at_once, sees)


def _trouble(losses: Sequence[float], recipe: Recipe, num_classes: int) -> str:
    """Why a run is not worth going on with: the loss is not a number, or above chance where it will not come down any more."""
    if not all(map(math.isfinite, losses[-READ_EVERY:])):
        first = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        return f"the loss is not finite from step {first} on"
    done, chance = len(losses), math.log(num_classes)
    is_last, is_late = done == recipe.steps, done >= max(HOPELESS_FROM * recipe.steps, 2 * READ_EVERY)
    is_judged = done >= max(recipe.warmup_steps + LOST_FROM * recipe.steps, 2 * READ_EVERY)
    bound = 1.05 * chance if is_last or is_late else LOST * chance if is_judged else math.inf
    if losses and statistics.median(losses[-READ_EVERY:]) > bound:
        return f"the loss is above chance at step {done}"
    return ""
