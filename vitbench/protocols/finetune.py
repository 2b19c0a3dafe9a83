"""Full fine-tuning: every weight and a zero-initialised head, by SGD with momentum, cosine decay and clipped gradients.

The ViT paper's protocol (facts/protocols.md 3.1, 3.3). A loop of steps, not of epochs: VTAB-1k has two steps an epoch. Losses
stay on the device until the end, so no step waits for one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vitbench.api import Adaptation, Adapted, Protocol
from vitbench.errors import VitbenchError
from vitbench.lazy import lazy_module
from vitbench.protocols.recipes import Recipe
from vitbench.randomness import torch_generator
from vitbench.records import PreprocessName, Trial
from vitbench.registry import register_protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = lazy_module("torch")

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TrainLog:
    """What a run left behind: one value a step (gradient norms before clipping), and the trained head."""

    losses: list[float]
    grad_norms: list[float]
    learning_rates: list[float]
    head: nn.Linear


def train(
    backbone: Any,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    recipe: Recipe,
    *,
    dtype: str = "float32",
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> TrainLog:
    """Train a backbone in place on batches of images (B, 3, S, S), normalised, and labels (B,).

    Takes one batch a step until `recipe.steps`.
    """
    weight = next(iter(backbone.parameters()))
    head = torch.nn.Linear(backbone.feature_dim, num_classes, device=weight.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    weights = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(weights, lr=0.0, momentum=recipe.momentum)
    losses, norms, rates = [], [], []
    backbone.train()
    for step, (images, labels) in zip(range(recipe.steps), batches, strict=False):
        rates.append(recipe.learning_rate(step))
        for group in optimiser.param_groups:
            group["lr"] = rates[-1]
        with torch.autocast(weight.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = head(backbone.features(images))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(weights, recipe.clip_norm))
        optimiser.step()
        losses.append(loss.detach())
        on_step(step + 1, recipe.steps)
    backbone.eval()
    return TrainLog(torch.stack(losses).tolist(), torch.stack(norms).tolist(), rates, head)


@register_protocol("finetune", version=1, source="arXiv 2010.11929 App. B.1.1")
@dataclass(frozen=True)
class Finetune(Protocol):
    """Full fine-tuning of all weights (the ViT paper's), at one learning rate.

    Trains on train and validation together; nothing is chosen, so validation has no other use. `augment: flip` mirrors half of
    the pictures, but for tasks whose labels depend on left and right.
    """

    default_preprocess: ClassVar[PreprocessName] = "squash"

    steps: Positive = 500
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    base_lr: Annotated[float, Field(gt=0)] = 0.01
    batch_size: Positive = 512
    augment: Literal["none", "flip"] = "none"

    def depends_on_seed(self, budget: str) -> bool:
        """The order of examples is random under every budget."""
        del budget
        return True

    def adapt(self, data: Adaptation) -> Adapted:
        """Train a copy of the backbone.

        Raises:
            VitbenchError: the backbone has nothing to train, or the loss is not finite.
        """
        recipe = Recipe(self.steps, self.warmup_steps, self.base_lr, self.batch_size)
        backbone: Any = copy.deepcopy(data.backbone)
        if self.augment == "flip" and not data.flip:
            data.note("not flipped: the task's labels do not survive it")
        if not any(weight.requires_grad for weight in backbone.parameters()):
            raise VitbenchError("the backbone has no weights to train: leave it to probes")
        log = train(
            backbone,
            self._batches(data, recipe),
            data.num_classes,
            recipe,
            dtype=data.dtype,
            on_step=data.report,
        )
        if not np.isfinite(log.losses[-1]):
            first = int(np.flatnonzero(~np.isfinite(log.losses))[0])
            raise VitbenchError(f"the loss is not finite from step {first} on: lower base_lr {self.base_lr}")
        trial = Trial(
            options={"base_lr": self.base_lr, "steps": self.steps, "final_loss": log.losses[-1]},
            split="train", metric="loss", value=log.losses[-1], chosen=True,
        )  # fmt: skip
        seen = self.steps * min(self.batch_size, len(data.train) + len(data.val))
        return Adapted(backbone, log.head, True, (trial,), images_backward=seen)

    def _batches(self, data: Adaptation, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches: pass after pass in a fresh seeded order, with no gap between passes."""
        splits = [split for split in (data.train, data.val) if len(split)]
        pixels = torch.cat([data.pixels(split) for split in splits])
        labels = torch.as_tensor(np.concatenate([split.labels for split in splits])).to(data.device)
        order = torch_generator(data.seed, "finetune order")
        size = min(recipe.batch_size, len(labels))
        waiting = torch.empty(0, dtype=torch.long)
        while True:
            while len(waiting) < size:
                waiting = torch.cat([waiting, torch.randperm(len(labels), generator=order)])
            chosen, waiting = waiting[:size].to(data.device), waiting[size:]
            images = data.normalise(pixels[chosen])
            if self.augment == "flip" and data.flip:
                mirrored = torch.rand(size, generator=order).to(data.device) < 0.5
                images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            yield images, labels[chosen]
