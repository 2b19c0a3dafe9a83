"""The training runs of one job: each from the backbone as it came, each able to go on where it was cut off."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vitbench.api import Adaptation, Split
from vitbench.protocols.recipes import Recipe
from vitbench.protocols.tuning import fitting, pictures
from vitbench.protocols.tuning.checkpoints import Shelf
from vitbench.protocols.tuning.loop import TrainLog, train
from vitbench.records import Trial

CURVE_POINTS = 64
SCORED_AT_ONCE = 1024


class Runs:
    """Training runs of one job: each from the backbone as it came, each able to go on where it was cut off."""

    def __init__(self, data: Adaptation, shelf: Shelf) -> None:
        self.data, self.shelf = data, shelf
        self.forward = self.backward = 0

    def train(self, recipe: Recipe, splits: Sequence[Split], name: str) -> tuple[Any, TrainLog]:
        """A trained copy of the backbone, in eval mode, and its log."""
        data = self.data
        backbone: Any = sized(data, recipe)
        size_px = backbone.input.size_px
        shown = pictures.Pictures(data, splits, recipe, size_px, data.num_classes)
        place = self.shelf.place(name, recipe.fields())
        with self.shelf.minding_signals():
            log = train(
                backbone, shown.batches, data.num_classes, recipe, dtype=data.dtype, on_step=data.report,
                place=place,
            )  # fmt: skip
        self.backward += len(log.losses) * shown.order.batch_size
        return backbone, log

    def top1(self, backbone: Any, head: Any, split: Split) -> float:
        """Accuracy of a trained backbone on a split."""
        hits: Any = 0
        for first in range(0, len(split), SCORED_AT_ONCE):
            part = split.take(np.arange(first, min(first + SCORED_AT_ONCE, len(split))))
            pixels = self.data.pixels(part, backbone.input.size_px)
            truth = torch.as_tensor(part.labels, device=pixels.device)
            for images, right in zip(pixels.split(fitting.ON_CPU), truth.split(fitting.ON_CPU), strict=True):
                hits += fitting.hits(backbone, head, self.data.normalise(images), right, self.data.dtype)
        self.forward += len(split)
        return int(hits) / len(split)


def with_scores(runs: Runs, recipes: Sequence[Recipe]) -> tuple[Trial, ...]:
    """Every recipe of the grid, trained on train and scored on validation; the best is chosen unless all diverged."""
    trials = []
    for i, recipe in enumerate(recipes):
        done = runs.shelf.done(f"trial-{i}", recipe.fields())
        if done is None:
            backbone, log = runs.train(recipe, [runs.data.train], f"trial-{i}")
            value = None if log.diverged else runs.top1(backbone, log.head, runs.data.val)
            done = {"value": value, "note": log.diverged, "curve": curve(log.losses)}
            runs.shelf.finish(f"trial-{i}", recipe.fields(), done)
        trials.append(Trial(options=recipe.fields(), split="val", metric="top1", chosen=False, **done))
    scored = [i for i, trial in enumerate(trials) if trial.value is not None]
    best = max(scored, key=lambda i: (trials[i].value, -i), default=None)
    return tuple(trial.model_copy(update={"chosen": i == best}) for i, trial in enumerate(trials))


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
