"""The training loop, `vitbench.protocols.finetune.train`: from the first step or a checkpoint to the last, or to divergence."""

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

READ_EVERY = 20  # steps between reading the losses, which waits for the device
LATE_FROM = (
    0.5  # fraction of the steps after which a loss above where it began, and above chance, means divergence
)
EARLY_FROM, EARLY_FACTOR = 0.1, 3.0  # the same this long after warm-up, for a loss of so many times that

Batches = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class TrainLog:
    """The log of a training run, with one value per step, and the trained head.

    `grad_norms` are global norms before clipping. `diverged` is the reason why a run was stopped early, or empty.
    `micro_batch_size` is the number of images per forward pass and rank; BatchNorm computes its statistics over as many
    (`batch_norm_size`, 0 without BatchNorm). `notes` say what of the recipe's regularisation was applied, and what was tuned.
    """

    losses: list[float]
    grad_norms: list[float]
    learning_rates: list[float]
    head: nn.Linear
    diverged: str = ""
    micro_batch_size: int = 0
    batch_norm_size: int = 0
    notes: tuple[str, ...] = ()
    trained_parameters: int = 0


def train(
    backbone: Any,
    batches: Batches | Callable[[int], Batches],
    num_classes: int,
    recipe: Recipe,
    *,
    dtype: str = "float32",
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
    checkpoint: Checkpoint | None = None,
) -> TrainLog:
    """Train a backbone in place, with a zero-initialised linear head, and return the log with the head.

    Batches are pairs of normalised images (B, 3, S, S) and labels (B,) or class probabilities (B, C), one per step until
    `recipe.steps`; `batches` may also be a function from the first step to such an iterable, so that a run can resume. In a
    distributed run every rank gets the global batch, or triples: its own part of it and the global batch size. `checkpoint`
    is the run's checkpoint: read at the start, and written during training. `on_step` is called with the number of steps done
    and of all steps, every 20 steps and at the last. `dtype` is that of activations. The backbone is left in eval mode.
    Divergence stops the run (see `TrainLog`).

    Raises:
        torch.OutOfMemoryError: a micro-batch of one image does not fit.
        StartAgainError: memory ran out for a sharded model, whose ranks go on from the checkpoint when all have started again.
        RanksOutOfStepError: the same, and there is no checkpoint, or a single image does not fit.
    """
    from vitbench.protocols.finetune.fsdp import RanksOutOfStepError
    from vitbench.protocols.finetune.trainer import Trainer

    trainer = Trainer(backbone, num_classes, recipe, dtype=dtype)
    if checkpoint and (state := checkpoint.read()) is not None:
        trainer.restore(state)
        del state
    if checkpoint:
        trainer.gradients.most_images = checkpoint.owner.most_images()
    diverged = _divergence(trainer.read()[0], recipe, num_classes) if trainer.steps_done else ""
    if diverged:  # before it was interrupted
        return _finish(trainer, backbone, recipe, diverged)
    remaining = batches(trainer.steps_done) if callable(batches) else batches
    # The range comes first, so that zip does not fetch a batch beyond the last step.
    for step, batch in zip(range(trainer.steps_done + 1, recipe.steps + 1), remaining, strict=False):
        try:
            trainer.step(*batch)
        except RanksOutOfStepError as error:
            if checkpoint:
                checkpoint.owner.start_smaller(error.images)
            raise
        if step % READ_EVERY == 0 or step == recipe.steps:
            diverged = _divergence(trainer.read()[0], recipe, num_classes)
            on_step(step, recipe.steps)
        if checkpoint:
            checkpoint.keep(trainer)
        if diverged:
            break
    return _finish(trainer, backbone, recipe, diverged)


def _finish(trainer: Trainer, backbone: Any, recipe: Recipe, diverged: str) -> TrainLog:
    trainer.finish()
    backbone.eval()
    losses, norms = trainer.read()
    rates = [recipe.learning_rate(step) for step in range(len(losses))]
    size = trainer.gradients.micro_batch_size
    batch_norm_size = size if trainer.gradients.has_batch_norm else 0
    notes = tuple(trainer.notes)
    return TrainLog(
        losses, norms, rates, trainer.head, diverged, size, batch_norm_size, notes, trainer.trained_parameters
    )


def _divergence(losses: Sequence[float], recipe: Recipe, num_classes: int) -> str:
    """Return why a run has diverged, or an empty string: the loss is not finite, or too high where it will not recover.

    Too high is above chance and above the first step: a head that is random at first starts above chance, one of zeros at it.
    """
    if not all(map(math.isfinite, losses[-READ_EVERY:])):
        first = next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
        return f"the loss is not finite from step {first} on"
    done, begun = len(losses), max([math.log(num_classes), *losses[:1]])
    is_last, is_late = done == recipe.steps, done >= max(LATE_FROM * recipe.steps, 2 * READ_EVERY)
    is_early = done >= max(recipe.warmup_steps + EARLY_FROM * recipe.steps, 2 * READ_EVERY)
    bound = 1.05 * begun if is_last or is_late else EARLY_FACTOR * begun if is_early else math.inf
    if losses and statistics.median(losses[-READ_EVERY:]) > bound:
        return f"the loss is above chance at step {done}"
    return ""
