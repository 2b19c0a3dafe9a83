"""The adaptation of a frozen backbone by heads: train the grid at once, choose on validation, return the chosen head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitbench.api import Adaptation, Adapted, Split
from vitbench.core.errors import Problem, UsageError, VitbenchError
from vitbench.core.record import Trial
from vitbench.protocols.finetune.batches import TrainingImages
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.loop import READ_EVERY
from vitbench.protocols.finetune.search import SCORING_BLOCK, loss_curve
from vitbench.protocols.heads import attention, linear
from vitbench.protocols.heads.batch_norm import BatchNorm
from vitbench.protocols.heads.recipe import HeadRecipe, Kind, Point
from vitbench.protocols.heads.stack import Heads
from vitbench.protocols.heads.trainer import HeadTrainer


@dataclass(frozen=True)
class Parts:
    """What a kind of heads reads, and how they are made: of points, a sample of what is read, classes, recipe and seed."""

    read: Callable[[Any, Tensor, Sequence[str]], dict[str, Tensor]]
    make: Callable[[Sequence[Point], Tensor, int, HeadRecipe, int], Heads]


KINDS: dict[Kind, Parts] = {
    "linear": Parts(linear.read_rows, linear.LinearHeads),
    "attentive": Parts(attention.read_tokens, attention.AttentionHeads),
}


class ProbedBackbone(nn.Module):
    """A frozen backbone whose features are what a linear layer is put on: rows, or tokens that an attentive head has pooled.

    `reads` names the features. `pooling` are the weights of an attentive head but those of its linear layer, as buffers.
    """

    def __init__(
        self, backbone: Any, kind: Kind, reads: str, width: int, pooling: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.backbone, self.kind, self.reads = backbone, kind, reads
        self.input, self.provenance, self.feature_dim = backbone.input, backbone.provenance, width
        for name, weight in pooling.items():
            self.register_buffer(name, weight)

    def features(self, images: Tensor) -> Tensor:
        """What the linear layer reads, (B, D), of normalised images (B, 3, S, S)."""
        read = KINDS[self.kind].read(self.backbone, images, [self.reads])[self.reads]
        if self.kind == "linear":
            return read
        weights = {name: weight[None] for name, weight in self.named_buffers(recurse=False)}
        return attention.pool(read, weights, read.shape[-1] // attention.part_width(read.shape[-1]))[:, 0]

    def at_resolution(self, size_px: int) -> ProbedBackbone:
        """The same at another image size."""
        pooling = dict(self.named_buffers(recurse=False))
        return ProbedBackbone(
            self.backbone.at_resolution(size_px), self.kind, self.reads, self.feature_dim, pooling
        )


def adapt(data: Adaptation, recipe: HeadRecipe, kind: Kind) -> Adapted:
    """Train every head of a recipe's grid on augmented images, and return the one that is best on validation.

    A grid of one is trained on train and validation together, as there is nothing to choose.

    Raises:
        VitbenchError: the loss of every head is not finite.
        UsageError: the backbone does not offer what the heads read.
    """
    recipe = _decidable(data, recipe)
    chooses = len(recipe.points()) > 1
    splits = [split for split in ((data.train,) if chooses else (data.train, data.val)) if len(split)]
    examples = sum(map(len, splits))
    backbone = _at_size(data, recipe)
    asked, recipe = recipe, recipe.for_examples(examples)
    _note(data, asked, recipe)
    read = partial(_read, data, backbone, kind, recipe.inputs)
    trainer = _trainer(data, backbone, recipe, kind, read)
    with Checkpoints(data.checkpoints) as checkpoints:
        _train(data, recipe, splits, trainer, checkpoints)
        losses = torch.stack(trainer.losses).T.tolist()  # of each head, step by step
        values = [_finite_until(each) for each in losses]
        if all(note for note in values):
            raise VitbenchError(f"every head diverged: {values[0]}; state lower values of base_lr")
        accuracies = _accuracies(data, trainer) if chooses else [None]
    scores = [None if note else accuracy for note, accuracy in zip(values, accuracies, strict=True)]
    best = max((i for i, note in enumerate(values) if not note), key=lambda i: (scores[i] or 0.0, -i))
    trials = _trials(trainer.points, scores, values, best) if chooses else ()
    return _adapted(
        data, backbone, recipe, kind, trainer, best, (*trials, _final(recipe, trainer, losses, best, splits))
    )


def _decidable(data: Adaptation, recipe: HeadRecipe) -> HeadRecipe:
    """The recipe, or the middle of its grid where there is nothing to choose on."""
    points = recipe.points()
    if len(points) == 1 or len(data.val):
        return recipe
    middle = points[(len(points) - 1) // 2]
    data.note("no validation data to choose on: used the middle of the grid")
    return replace(
        recipe, inputs=(middle.reads,), base_lr=(middle.base_lr,), weight_decay=(middle.weight_decay,)
    )


def _at_size(data: Adaptation, recipe: HeadRecipe) -> Any:
    """The backbone at the suite's image size or the recipe's, or at the next larger one that its patches tile; not a copy.

    Raises:
        UsageError: the backbone works at one image size only.
    """
    backbone: Any = data.backbone
    wanted = data.resolution_px or recipe.size_px
    if wanted is None or wanted == backbone.input.size_px:
        return backbone
    try:
        found = backbone.at_least(wanted).to(data.device).eval()
    except UsageError as error:
        own = backbone.input.size_px
        step = f"state `resolution_px: {own}` in the suite to probe it at its own image size"
        raise UsageError(
            Problem(f"{error.problems[0].what}: the recipe has {wanted} px", next_step=step)
        ) from error
    if found.input.size_px != wanted:
        data.note(f"at {found.input.size_px} px: {wanted} px is not a multiple of the patch size")
    return found


def _note(data: Adaptation, asked: HeadRecipe, recipe: HeadRecipe) -> None:
    for wanted, allowed, what in (
        (recipe.flip, data.flip, "flipped"),
        (recipe.crop != "none", data.crop, "cropped"),
    ):
        if wanted and not allowed:
            data.note(f"not {what}: the task's labels do not survive it")
    if recipe.batch_size != asked.batch_size:
        data.note(
            f"batches of all {recipe.batch_size} training images, fewer than the recipe's {asked.batch_size}; the rate is "
            "in proportion"
        )


def _read(
    data: Adaptation, backbone: Any, kind: Kind, inputs: Sequence[str], images: Tensor
) -> dict[str, Tensor]:
    """What heads read of normalised images, without gradients of the backbone."""
    with (
        torch.no_grad(),
        torch.autocast(images.device.type, torch.bfloat16, enabled=data.dtype == "bfloat16"),
    ):
        return KINDS[kind].read(backbone, images, inputs)


def _trainer(
    data: Adaptation,
    backbone: Any,
    recipe: HeadRecipe,
    kind: Kind,
    read: Callable[[Tensor], dict[str, Tensor]],
) -> HeadTrainer:
    """A trainer of new heads, sized by what one image gives."""
    size_px = backbone.input.size_px
    sample = read(torch.zeros(1, 3, size_px, size_px, device=data.device))
    heads = {}
    for name in recipe.inputs:
        points = [point for point in recipe.points() if point.reads == name]
        heads[name] = KINDS[kind].make(points, sample[name], data.num_classes, recipe, data.seed)
    return HeadTrainer(heads, read, recipe, size_px)


def _train(
    data: Adaptation,
    recipe: HeadRecipe,
    splits: Sequence[Split],
    trainer: HeadTrainer,
    checkpoints: Checkpoints,
) -> None:
    """Train from the first step, or from a checkpoint, to the last."""
    images = TrainingImages(data, splits, recipe.of_images(), trainer.size_px, data.num_classes)
    checkpoint = checkpoints.checkpoint("heads", recipe.fields())
    if (state := checkpoint.read()) is not None:
        trainer.restore(state)
        del state
    data.report(trainer.steps_done, recipe.steps, "training step")
    with checkpoints.delaying_signals():
        steps = range(trainer.steps_done + 1, recipe.steps + 1)
        for step, batch in zip(steps, images.batches(trainer.steps_done), strict=False):
            trainer.step(*batch)
            if step % READ_EVERY == 0 or step == recipe.steps:
                data.report(step, recipe.steps, "training step")
            checkpoint.keep(trainer)


def _finite_until(losses: Sequence[float]) -> str:
    """Why a head has diverged, or an empty string."""
    first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
    return "" if first is None else f"the loss is not finite from step {first} on"


def _accuracies(data: Adaptation, trainer: HeadTrainer) -> list[float]:
    """The accuracy of every head on validation, in one pass."""
    hits: Any = 0
    for first in range(0, len(data.val), SCORING_BLOCK):
        data.report(first, len(data.val), "validation image")
        part = data.val.take(np.arange(first, min(first + SCORING_BLOCK, len(data.val))))
        images = data.normalise(data.pixels(part, trainer.size_px))
        labels = torch.as_tensor(part.labels, device=images.device)
        hits = hits + (trainer.scores(images).argmax(2) == labels[:, None]).sum(0)
    return [hit / len(data.val) for hit in hits.tolist()]


def _trials(
    points: Sequence[Point], scores: Sequence[float | None], notes: Sequence[str], best: int
) -> tuple[Trial, ...]:
    return tuple(
        Trial(options=point.fields(), split="val", metric="top1", value=score, note=note, chosen=i == best)
        for i, (point, score, note) in enumerate(zip(points, scores, notes, strict=True))
    )


def _final(
    recipe: HeadRecipe,
    trainer: HeadTrainer,
    losses: Sequence[Sequence[float]],
    best: int,
    splits: Sequence[Split],
) -> Trial:
    """The chosen head's training, with its recipe."""
    options = {**recipe.fields(), **trainer.points[best].fields()}
    note = "trained on train and validation" if len(splits) > 1 else ""
    curve = loss_curve(losses[best])
    return Trial(
        options=options,
        split="train",
        metric="loss",
        value=losses[best][-1],
        chosen=True,
        note=note,
        curve=curve,
    )


def _adapted(
    data: Adaptation, backbone: Any, recipe: HeadRecipe, kind: Kind, trainer: HeadTrainer, best: int,
    trials: tuple[Trial, ...],
) -> Adapted:  # fmt: skip
    """The chosen head on a backbone whose features it reads."""
    reads = trainer.points[best].reads
    group = trainer.heads[reads]
    weights = group.alone(best - list(trainer.points).index(group.points[0]))
    matrix, bias = weights.pop("weight"), weights.pop("bias")
    probed = ProbedBackbone(backbone, kind, reads, matrix.shape[1], weights)
    chosen_on = len(data.val) if trials[0].split == "val" else 0
    return Adapted(
        backbone.around(probed),
        partial(_scores, matrix, bias, trainer.norms.get(reads)),
        False,
        trials,
        images_forward=recipe.steps * recipe.batch_size + chosen_on,
        trained_parameters=sum(each.numel() for each in (matrix, bias, *weights.values())),
    )


def _scores(matrix: Tensor, bias: Tensor, norm: BatchNorm | None, rows: Tensor) -> Tensor:
    """Class scores (N, C) of rows (N, D)."""
    return (norm.test(rows) if norm else rows) @ matrix.T + bias
