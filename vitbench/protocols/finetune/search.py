"""Grid search of fine-tuning: train every recipe, score it on validation, and resume finished and interrupted trials."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vitbench.api import Adaptation, Split
from vitbench.compute.meter import Span, credit, so_far
from vitbench.compute.training_flops import training_flops
from vitbench.core.errors import VitbenchError
from vitbench.core.record import Trial
from vitbench.core.seeding import seeded
from vitbench.protocols.finetune import batches, distributed, micro_batch, tuning
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.loop import TrainLog, train
from vitbench.protocols.recipes import Recipe

CURVE_POINTS = 64
SCORING_BLOCK = 1024  # images preprocessed together


class Search:
    """The training runs of one job. Each starts from the original backbone, or resumes from its own checkpoint.

    `forward` and `backward` count the images of all runs: scored without gradients, and trained on. `stage` names the run
    in progress lines.
    """

    def __init__(self, data: Adaptation, checkpoints: Checkpoints) -> None:
        self.data, self.checkpoints = data, checkpoints
        self.forward = self.backward = 0
        self.stage = ""

    def train(self, recipe: Recipe, splits: Sequence[Split], name: str) -> tuple[Any, TrainLog]:
        """Return a trained copy of the backbone, in eval mode, and its log."""
        data = self.data
        recipe = recipe.for_examples(sum(map(len, splits)))
        backbone: Any = backbone_at_size(data, recipe)
        size_px = backbone.input.size_px
        images = batches.TrainingImages(
            data, splits, recipe, size_px, data.num_classes, distributed.this_process()
        )
        checkpoint = self.checkpoints.checkpoint(name, recipe.fields())
        stage = f"{self.stage}training step"
        data.report(0, recipe.steps, stage)  # the first steps are counted late, and compiling takes long
        # Each run has its own random streams, so dropout does not depend on whether earlier runs were resumed.
        # Ranks draw other dropout masks than each other.
        rank = distributed.this_process().rank
        stream = f"finetune {name}" + (f" rank {rank}" if rank else "")
        with self.checkpoints.delaying_signals(), seeded(data.seed, stream):
            log = train(
                backbone, images.batches, data.num_classes, recipe, dtype=data.dtype, checkpoint=checkpoint,
                on_step=partial(data.report, stage=stage),
            )  # fmt: skip
        self.backward += images.order.images(len(log.losses))
        for note in log.notes:
            data.note(note)
        if log.batch_norm_size and log.batch_norm_size < recipe.batch_size:
            data.note(
                f"BatchNorm statistics were computed over {log.batch_norm_size} images, "
                f"not the whole batch of {recipe.batch_size}"
            )
        return backbone, log

    def top1(self, backbone: Any, log: TrainLog, split: Split) -> float:
        """Return the accuracy of a trained backbone on a split, in [0, 1]."""
        size = max(log.micro_batch_size, micro_batch.ON_CPU)  # what fits with gradients fits without
        correct: Any = 0
        for first in range(0, len(split), SCORING_BLOCK):
            self.data.report(first, len(split), f"{self.stage}validation image")
            part = split.take(np.arange(first, min(first + SCORING_BLOCK, len(split))))
            pixels = self.data.pixels(part, backbone.input.size_px)
            truth = torch.as_tensor(part.labels, device=pixels.device)
            for images, labels in zip(pixels.split(size), truth.split(size), strict=True):
                correct += micro_batch.count_correct(
                    backbone, log.head, self.data.normalise(images), labels, self.data.dtype
                )
        self.forward += len(split)
        return int(correct) / len(split)


def run_trials(runs: Search, recipes: Sequence[Recipe]) -> tuple[Trial, ...]:
    """Train every recipe on train, score it on validation, and mark the best as chosen; none if all diverged."""
    trials = []
    for i, recipe in enumerate(recipes):
        runs.stage = f"trial {i + 1} of {len(recipes)}, "
        outcome = distributed.broadcast(runs.checkpoints.done(f"trial-{i}", recipe.fields()))
        if outcome is None or "taken" not in outcome:  # older versions did not say
            forward, backward, begun = runs.forward, runs.backward, so_far()
            backbone, log = runs.train(recipe, [runs.data.train], f"trial-{i}")
            value = None if log.diverged else runs.top1(backbone, log, runs.data.val)
            images = [runs.forward - forward, runs.backward - backward]
            taken = so_far().since(begun)
            outcome = distributed.broadcast({
                "value": value, "note": log.diverged, "curve": loss_curve(log.losses), "images": images,
                "taken": asdict(taken),
            })  # fmt: skip
            runs.checkpoints.finish(f"trial-{i}", recipe.fields(), outcome)
        else:
            runs.forward += outcome["images"][0]
            runs.backward += outcome["images"][1]
            credit(Span(**outcome["taken"]))
        del outcome["images"], outcome["taken"]
        trials.append(Trial(options=recipe.fields(), split="val", metric="top1", chosen=False, **outcome))
    runs.stage = "final run, "
    scored = [i for i, trial in enumerate(trials) if trial.value is not None]
    best = max(scored, key=lambda i: (trials[i].value, -i), default=None)
    return tuple(trial.model_copy(update={"chosen": i == best}) for i, trial in enumerate(trials))


def left_out(data: Adaptation, recipe: Recipe) -> tuple[str, ...]:
    """What of a recipe's augmentation the task rules out, in words."""
    return batches.augmentation_of(recipe).allowed(flip=data.flip, crop=data.crop).without


def snap_to_patches(data: Adaptation, recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Return the recipes at the next image size that is a multiple of the patch size (512 px with 14 px patches: 518 px).

    The size before the crop grows in proportion. A note records the change.
    """
    wanted = recipes[0].size_px
    if wanted is None:
        return tuple(recipes)
    size_px = backbone_at_size(data, recipes[0]).input.size_px
    if size_px == wanted:
        return tuple(recipes)
    data.note(f"at {size_px} px: {wanted} px is not a multiple of the patch size")
    return tuple(
        replace(
            recipe, size_px=size_px, resize_px=recipe.resize_px and round(recipe.resize_px * size_px / wanted)
        )
        for recipe in recipes
    )


def trainable(backbone: Any) -> Any:
    """The network that training starts from, without the layers that the reference drops before."""
    return backbone.trainable() if hasattr(backbone, "trainable") else backbone


def step_flops(backbone: Any, recipe: Recipe) -> int | None:
    """FLOPs of training on one image of a backbone without weights, as a recipe tunes it; None if they cannot be counted."""
    network: Any = copy.deepcopy(trainable(backbone)).eval()
    try:
        tuning.choose(network, recipe)
    except VitbenchError:  # the job says so, or peft is not here
        return None
    return training_flops(network, network.input.size_px)


def backbone_at_size(data: Adaptation, recipe: Recipe) -> Any:
    """Return a copy of the backbone at the recipe's image size, or at the next larger one that its patches tile.

    Raises:
        UsageError: the backbone works at one image size only.
    """
    backbone: Any = copy.deepcopy(trainable(data.backbone))
    if recipe.size_px is None or recipe.size_px == backbone.input.size_px:
        return backbone
    return backbone.at_least(recipe.size_px).to(data.device).eval()


def loss_curve(losses: Sequence[float]) -> dict[str, list[float]]:
    """Return the losses averaged over up to 64 intervals, with each interval's last step; None where a mean is not finite."""
    ends = np.unique(np.linspace(0, len(losses), min(CURVE_POINTS, len(losses)) + 1).astype(int))
    means = [float(np.mean(losses[a:b])) for a, b in pairwise(ends)]
    finite = [mean if math.isfinite(mean) else None for mean in means]
    return {"step": [int(end) for end in ends[1:]], "loss": finite}  # type: ignore[dict-item]
