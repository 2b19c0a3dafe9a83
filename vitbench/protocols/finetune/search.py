"""The training runs of one job: each from the backbone as it came, each able to go on where it was cut off."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vitbench.api import Adaptation, Split
from vitbench.core.record import Trial
from vitbench.core.seeding import seeded
from vitbench.protocols.finetune import batches, distributed, micro_batch
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.loop import TrainLog, train
from vitbench.protocols.recipes import Recipe

CURVE_POINTS = 64
SCORED_AT_ONCE = 1024


class Search:
    """Training runs of one job: each from the backbone as it came, each able to go on where it was cut off."""

    def __init__(self, data: Adaptation, shelf: Checkpoints) -> None:
        self.data, self.shelf = data, shelf
        self.forward = self.backward = 0

    def train(self, recipe: Recipe, splits: Sequence[Split], name: str) -> tuple[Any, TrainLog]:
        """A trained copy of the backbone, in eval mode, and its log."""
        data = self.data
        backbone: Any = sized(data, recipe)
        size_px = backbone.input.size_px
        shown = batches.TrainingImages(data, splits, recipe, size_px, data.num_classes, distributed.place())
        place = self.shelf.place(name, recipe.fields())
        # Each run has streams of its own: dropout draws the same whether the runs before it were done now or earlier.
        with self.shelf.minding_signals(), seeded(data.seed, f"finetune {name}"):
            log = train(
                backbone, shown.batches, data.num_classes, recipe, dtype=data.dtype, on_step=data.report,
                place=place,
            )  # fmt: skip
        self.backward += len(log.losses) * recipe.batch_size
        if log.batch_norm_sees and log.batch_norm_sees < recipe.batch_size:
            data.note(
                f"BatchNorm saw {log.batch_norm_sees} images at a time, of batches of {recipe.batch_size}"
            )
        return backbone, log

    def top1(self, backbone: Any, log: TrainLog, split: Split) -> float:
        """Accuracy of a trained backbone on a split."""
        at_once = max(log.at_once, micro_batch.ON_CPU)  # what trains at once fits without gradients as well
        hits: Any = 0
        for first in range(0, len(split), SCORED_AT_ONCE):
            part = split.take(np.arange(first, min(first + SCORED_AT_ONCE, len(split))))
            pixels = self.data.pixels(part, backbone.input.size_px)
            truth = torch.as_tensor(part.labels, device=pixels.device)
            for images, right in zip(pixels.split(at_once), truth.split(at_once), strict=True):
                hits += micro_batch.hits(
                    backbone, log.head, self.data.normalise(images), right, self.data.dtype
                )
        self.forward += len(split)
        return int(hits) / len(split)


def with_scores(runs: Search, recipes: Sequence[Recipe]) -> tuple[Trial, ...]:
    """Every recipe of the grid, trained on train and scored on validation; the best is chosen unless all diverged."""
    trials = []
    for i, recipe in enumerate(recipes):
        done = distributed.told(runs.shelf.done(f"trial-{i}", recipe.fields()))
        if done is None:
            forward, backward = runs.forward, runs.backward
            backbone, log = runs.train(recipe, [runs.data.train], f"trial-{i}")
            value = None if log.diverged else runs.top1(backbone, log, runs.data.val)
            images = [runs.forward - forward, runs.backward - backward]
            done = distributed.told({
                "value": value, "note": log.diverged, "curve": curve(log.losses), "images": images,
            })  # fmt: skip
            runs.shelf.finish(f"trial-{i}", recipe.fields(), done)
        else:
            runs.forward += done["images"][0]
            runs.backward += done["images"][1]
        del done["images"]
        trials.append(Trial(options=recipe.fields(), split="val", metric="top1", chosen=False, **done))
    scored = [i for i, trial in enumerate(trials) if trial.value is not None]
    best = max(scored, key=lambda i: (trials[i].value, -i), default=None)
    return tuple(trial.model_copy(update={"chosen": i == best}) for i, trial in enumerate(trials))


def filled(data: Adaptation, recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The recipes at the size that the backbone's patches fill (518 px for 512 and patches of 14), crops in proportion."""
    wanted = recipes[0].size_px
    if wanted is None:
        return tuple(recipes)
    size_px = sized(data, recipes[0]).input.size_px
    if size_px == wanted:
        return tuple(recipes)
    data.note(f"at {size_px} px: patches do not fill {wanted} px")
    return tuple(
        replace(
            recipe, size_px=size_px, resize_px=recipe.resize_px and round(recipe.resize_px * size_px / wanted)
        )
        for recipe in recipes
    )


def sized(data: Adaptation, recipe: Recipe) -> Any:
    """A copy of the backbone at the recipe's size, or at the next that its patches fill.

    Raises:
        UsageError: the backbone is tied to its size.
    """
    backbone: Any = copy.deepcopy(data.backbone)
    if recipe.size_px is None or recipe.size_px == backbone.input.size_px:
        return backbone
    return backbone.at_least(recipe.size_px).to(data.device).eval()


def curve(losses: Sequence[float]) -> dict[str, list[float]]:
    """Losses as means of up to 64 stretches, each at its last step."""
    ends = np.unique(np.linspace(0, len(losses), min(CURVE_POINTS, len(losses)) + 1).astype(int))
    means = [float(np.mean(losses[a:b])) for a, b in pairwise(ends)]
    finite = [mean if math.isfinite(mean) else None for mean in means]
    return {"step": [int(end) for end in ends[1:]], "loss": finite}  # type: ignore[dict-item]
