"""One optimiser step of fine-tuning: gradients (`gradients.py`), clipping, the update, and optional Polyak averaging.

A step does not wait for the device: losses and norms stay there until they are read.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitbench.protocols.finetune import distributed, fsdp, tuning
from vitbench.protocols.finetune.gradients import Gradients, random_states, restore_random
from vitbench.protocols.finetune.optimiser import (
    MOMENTS,
    build_optimiser,
    restore_state,
    set_rate,
    state_for_checkpoint,
)
from vitbench.protocols.finetune.regularise import regularise
from vitbench.protocols.finetune.snapshot import snapshot
from vitbench.protocols.recipes import Recipe

AGREE_EVERY = 5  # steps between asking all ranks whether to write a checkpoint or to stop


class Features(nn.Module):
    """A module whose forward is a backbone's `features`, as torch's wrappers need it."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D) of normalised images (B, 3, S, S)."""
        return cast("Tensor", self.backbone.features(images))


class Trainer:
    """Trains a backbone with a new head by one recipe: `step` by step, with a `state` for checkpoints."""

    def __init__(self, backbone: Any, num_classes: int, recipe: Recipe, *, dtype: str) -> None:
        weight = next(iter(backbone.parameters()))
        self.backbone, self.recipe, self.device = backbone, recipe, weight.device
        self.said = [*regularise(backbone, recipe), *tuning.choose(backbone, recipe)]
        self.head = nn.Linear(backbone.feature_dim, num_classes, device=weight.device)
        tuning.init_head(self.head, recipe)
        self.full_model = nn.Sequential(Features(backbone), self.head)
        self.world_size = distributed.this_process().world_size
        self.sharded = self.world_size > 1 and fsdp.is_too_big(
            self.full_model, self.device, copies=MOMENTS[recipe.optimiser] + bool(recipe.averaging)
        )
        distributed.broadcast_tensors(self.full_model.state_dict().values())
        self.model = fsdp.shard(self.full_model) if self.sharded else self.full_model
        self.gradients = Gradients(self.model, self.full_model, recipe, dtype)
        self.weights = self.gradients.weights
        plain = all(weight.is_floating_point() for weight in self.weights) and not self.sharded
        fused = plain and self.device.type in ("cpu", "cuda")
        self.optimiser = build_optimiser(self.model, recipe, fused=fused)
        self.average = [weight.detach().clone() for weight in self.weights] if recipe.averaging else []
        self.steps_done = 0
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.gradients.set_training()

    @property
    def trained_parameters(self) -> int:
        """How many numbers the optimiser changes, those of the head included."""
        return sum(weight.numel() for weight in self.weights)

    @property
    def notes(self) -> list[str]:
        """Which of the recipe's regularisation the network has layers for, what is tuned, and whether it is compiled."""
        return [*self.said, *self.gradients.notes]

    def step(self, images: Tensor, targets: Tensor, global_size: int | None = None) -> None:
        """Update the weights on a batch of normalised images (B, 3, S, S) with labels (B,) or class probabilities (B, C).

        The batch is the global one on every rank or, if `global_size` is given, this rank's part of a batch of that size.

        Raises:
            torch.OutOfMemoryError: a micro-batch of one image does not fit.
            RanksOutOfStepError: the model is sharded, and memory ran out on this rank.
        """
        set_rate(self.optimiser, self.recipe.learning_rate(self.steps_done))
        left = self.recipe.steps - self.steps_done
        self.losses.append(self.gradients.compute(images, targets, global_size, left))
        bound = math.inf if self.recipe.clip_norm is None else self.recipe.clip_norm
        self.norms.append(fsdp.full_tensor(nn.utils.clip_grad_norm_(self.weights, bound)))
        self.optimiser.step()
        self._include_in_average()
        self.steps_done += 1

    @torch.no_grad()
    def _include_in_average(self) -> None:
        """Update the average of the weights after each step; it excludes the initial weights, as in Adam's bias correction.

        Started from the initial weights, a factor of 0.9999 would keep 13 % of them after 20,000 steps, the zero head included;
        the paper does not say which it does (docs/protocols.md#optimiser-details).
        """
        if not self.average:
            return
        factor = cast("float", self.recipe.averaging)
        weight = (1 - factor) / (1 - factor ** (self.steps_done + 1))
        torch._foreach_lerp_(self.average, list[Tensor](self.weights), weight)

    @torch.no_grad()
    def finish(self) -> None:
        """Replace the weights by their average, if there is one, and gather sharded weights into the backbone and head."""
        for weight, mean in zip(self.weights, self.average, strict=False):
            weight.copy_(mean)
        self.average = []
        if self.sharded:
            fsdp.gather(self.model, self.full_model)

    def read(self) -> tuple[list[float], list[float]]:
        """Return all losses and gradient norms so far, one per step each; this waits for the device."""
        if not self.losses:
            return [], []
        return torch.stack(self.losses).tolist(), torch.stack(self.norms).tolist()

    def agree(self, keep: bool, stop: bool) -> tuple[bool, bool]:
        """Return whether any rank wants to write a checkpoint now, or to stop, so that all ranks do both at the same step.

        Ranks exchange this every few steps, or at every step of a sharded model, whose steps take seconds.
        """
        if self.world_size == 1:
            return keep, stop
        if not (self.sharded or self.steps_done % AGREE_EVERY == 0 or self.steps_done == self.recipe.steps):
            return False, False
        wanted = 2 if stop else int(keep)
        agreed = 2 - distributed.minimum(2 - wanted)
        return agreed > 0, agreed == 2

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, as snapshots and plain values; every rank must call this if sharded."""
        return {
            "steps_done": self.steps_done,
            "whole": {name: fsdp.for_checkpoint(tensor) for name, tensor in self.model.state_dict().items()},
            "optimiser": state_for_checkpoint(self.optimiser, self.weights),
            "average": [fsdp.for_checkpoint(mean) for mean in self.average],
            "losses": snapshot(torch.stack(self.losses)) if self.losses else torch.empty(0),
            "norms": snapshot(torch.stack(self.norms)) if self.norms else torch.empty(0),
            "micro_batch": self.gradients.micro_batch,
            **random_states(self.device),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.steps_done = state["steps_done"]
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(fsdp.distribute_like(state["whole"][name], tensor))
        restore_state(self.optimiser, self.weights, state["optimiser"])
        self.average = [
            fsdp.distribute_like(mean, w) for mean, w in zip(state["average"], self.weights, strict=False)
        ]
        self.losses = list(state["losses"].to(self.device))
        self.norms = list(state["norms"].to(self.device))
        self.gradients.micro_batch = state["micro_batch"]
        restore_random(state, self.device)
