"""One optimiser step of fine-tuning: gradient accumulation, clipping, the update, and optional Polyak averaging.

A step does not wait for the device: losses and norms stay there until they are read. In distributed training every rank takes
its part of each batch; gradients are summed during the backward pass (see `gradient_sum`), or by FSDP2 if training does not fit
one GPU.
"""

from __future__ import annotations

import math
import sys
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitbench.compute.batch_size import PROBE_SIZES
from vitbench.compute.compiled import Forward
from vitbench.protocols.finetune import distributed, fsdp, micro_batch, tuning
from vitbench.protocols.finetune.compiled import compiled, pays
from vitbench.protocols.finetune.gradient_sum import GradientSum
from vitbench.protocols.finetune.optimiser import (
    MOMENTS,
    build_optimiser,
    restore_state,
    set_rate,
    state_for_checkpoint,
)
from vitbench.protocols.finetune.regularise import regularise
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
    """Trains a backbone with a zero-initialised head by one recipe: `step` by step, with a `state` for checkpoints.

    `micro_batch` is the largest number of images per forward pass, found at the first step (0 before) and halved when memory
    runs out. Its value affects results by rounding only, unless layers mix the images of a batch, as BatchNorm does, or draw
    random numbers, as dropout does. `notes` say which of the recipe's regularisation the network has layers for.
    """

    def __init__(self, backbone: Any, num_classes: int, recipe: Recipe, *, dtype: str) -> None:
        weight = next(iter(backbone.parameters()))
        self.recipe, self.dtype, self.device = recipe, dtype, weight.device
        self.num_classes = num_classes
        self.micro_batch, self.most_images = 0, sys.maxsize
        self.backbone = backbone
        self.notes = [*regularise(backbone, recipe), *tuning.choose(backbone, recipe)]
        self.head = nn.Linear(backbone.feature_dim, num_classes, device=weight.device)
        tuning.init_head(self.head, recipe)
        self.features = Features(backbone)
        self.compiled: Forward | None = None  # decided at the first step
        self.full_model = nn.Sequential(self.features, self.head)
        self.world_size = distributed.this_process().world_size
        self.sharded = self.world_size > 1 and fsdp.is_too_big(
            self.full_model, self.device, copies=MOMENTS[recipe.optimiser] + bool(recipe.averaging)
        )
        norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.has_batch_norm = bool(norms)
        # Running statistics are averaged over all ranks at every step, so that every rank scores the same model.
        self.running = [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]
        distributed.broadcast_tensors(self.full_model.state_dict().values())
        self.model = fsdp.shard(self.full_model) if self.sharded else self.full_model
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.sums = GradientSum(self.weights) if self.world_size > 1 and not self.sharded else None
        plain = all(weight.is_floating_point() for weight in self.weights) and not self.sharded
        fused = plain and self.device.type in ("cpu", "cuda")
        self.optimiser = build_optimiser(self.model, recipe, fused=fused)
        self.average = [weight.detach().clone() for weight in self.weights] if recipe.averaging else []
        self.steps_done = 0
        self.batch_size = recipe.batch_size
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.set_training()

    @property
    def trained_parameters(self) -> int:
        """How many numbers the optimiser changes, those of the head included."""
        return sum(weight.numel() for weight in self.weights)

    def set_training(self) -> None:
        """Training mode, as far as the recipe has it; a sharded model is a copy."""
        self.model.train()
        features: Any = self.model[0]  # type: ignore[index]
        tuning.set_training(features.backbone, self.recipe)

    def step(self, images: Tensor, targets: Tensor, global_size: int | None = None) -> None:
        """Update the weights on a batch of normalised images (B, 3, S, S) with labels (B,) or class probabilities (B, C).

        The batch is the global one on every rank or, if `global_size` is given, this rank's part of a batch of that size.

        Raises:
            torch.OutOfMemoryError: a micro-batch of one image does not fit.
            RanksOutOfStepError: the model is sharded, and memory ran out on this rank.
        """
        set_rate(self.optimiser, self.recipe.learning_rate(self.steps_done))
        if self.micro_batch == 0:
            self.micro_batch = distributed.minimum(self._fitting(images))
        self.micro_batch = min(self.micro_batch, self.most_images)
        if global_size is None:
            global_size = len(images)
            images, targets = distributed.local_rows(images), distributed.local_rows(targets)
        self.batch_size = global_size
        if self.compiled is None:
            self.compiled = self._compiled(images)
        self.losses.append(self._compute_gradients(images, targets))
        bound = math.inf if self.recipe.clip_norm is None else self.recipe.clip_norm
        self.norms.append(fsdp.full_tensor(nn.utils.clip_grad_norm_(self.weights, bound)))
        self.optimiser.step()
        self._include_in_average()
        self.steps_done += 1

    def _fitting(self, images: Tensor) -> int:
        """Return the micro-batch size for a batch, by trial unless memory has run out for a trial of a sharded model before."""
        if self.sharded and self.most_images <= max(PROBE_SIZES):
            return self.most_images
        moments = MOMENTS[self.recipe.optimiser] + bool(self.sums)  # buckets are copies of the gradients
        return micro_batch.size_for(self.model, images, self.dtype, moments, self.set_training)

    def _compiled(self, images: Tensor) -> Forward:
        """Features as they are computed in training: compiled where that pays, for pieces as this batch has."""
        left = (self.recipe.steps - self.steps_done) * self.batch_size
        if self.sharded or not pays(self.features, self.device, left, images.shape[-1]):
            return self.features
        piece = images.tensor_split(self._num_micro_batches())[0]
        found, note = compiled(self.features, piece.contiguous(memory_format=torch.channels_last), self.dtype)
        self.notes = [*self.notes, note]
        return found

    def _compute_gradients(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute gradients of the mean loss over the global batch, halving the micro-batch until it fits, and return the loss.

        Raises:
            torch.OutOfMemoryError: a micro-batch of one image does not fit.
            RanksOutOfStepError: the model is sharded, and one does not fit: ranks synchronise in every layer.
        """
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            buffers = self.full_model.buffers() if self.has_batch_norm else ()
            before = self._random_states(), [buffer.clone() for buffer in buffers]
            total = None
            try:
                total = self._accumulate(images, targets)
            except torch.OutOfMemoryError as error:
                if self.sharded:
                    raise fsdp.RanksOutOfStepError(self.micro_batch_size) from error
                if self.micro_batch == 1 and self.world_size == 1:
                    raise
            # All ranks retry or none: the others would wait for one that retries alone.
            fits = self.sums.end(total is not None) if self.sums else total is not None
            if total is not None and fits:
                return self._reduce(total)
            self._restore(*before)
            self._halve_micro_batch()

    def _halve_micro_batch(self) -> None:
        if self.micro_batch == 1:
            raise torch.OutOfMemoryError(
                "a micro-batch of one image does not fit on the device of one of the ranks"
            )
        self.micro_batch = max(min(self.micro_batch, self._local_size()) // 2, 1)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _reduce(self, total: Tensor) -> Tensor:
        """Sum the loss over all ranks, average running statistics, and return the loss."""
        if self.sharded:
            dist.all_reduce(total)
        elif self.world_size > 1:
            distributed.all_reduce_sum([total, *self.running])
            for statistic in self.running:
                statistic.div_(self.world_size)
        return total

    def _local_size(self) -> int:
        """Return the number of images of the last batch on the rank that has most of them."""
        return math.ceil(self.batch_size / self.world_size)

    def _num_micro_batches(self) -> int:
        """Return the number of micro-batches of a step, the same on every rank: FSDP2 gathers weights in each of them."""
        return max(math.ceil(self._local_size() / self.micro_batch), 1)

    @property
    def micro_batch_size(self) -> int:
        """Return the actual number of images per forward pass, after a batch is split evenly; 0 before the first step."""
        return math.ceil(self._local_size() / self._num_micro_batches()) if self.micro_batch else 0

    def _random_states(self) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
        }

    def _restore(self, random: dict[str, Any], buffers: list[Tensor]) -> None:
        """Restore the random states, which dropout uses, and buffers such as running statistics, if any are given."""
        torch.set_rng_state(random["random"].cpu())
        if random["random_cuda"] is not None:
            torch.cuda.set_rng_state(random["random_cuda"].cpu(), self.device)
        for buffer, saved in zip(self.full_model.buffers() if buffers else (), buffers, strict=True):
            buffer.copy_(saved)

    def _accumulate(self, images: Tensor, targets: Tensor) -> Tensor:
        """Accumulate gradients over the micro-batches of this rank's part, and return its share of the mean loss."""
        total = torch.zeros((), device=self.device)
        count = self._num_micro_batches()
        parts = zip(images.tensor_split(count), targets.tensor_split(count), strict=True)
        for i, (part, labels) in enumerate(parts, 1):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
                logits = self._logits(part.contiguous(memory_format=torch.channels_last))
            loss = self._loss(logits.float(), labels) / self.batch_size
            if self.sums and i == count:
                self.sums.begin()
            (loss * self.world_size if self.sharded else loss).backward()  # FSDP averages over ranks
            total += loss.detach()
        return total

    def _logits(self, images: Tensor) -> Tensor:
        """Class scores (B, C); the head is outside of what is compiled."""
        if self.sharded or self.compiled is None:
            return cast("Tensor", self.model(images))
        return cast("Tensor", self.head(self.compiled(images)))

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)

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
        """Return all that the next step depends on, as tensors and plain values; every rank must call this if sharded."""
        return {
            "steps_done": self.steps_done,
            "whole": {name: fsdp.for_checkpoint(tensor) for name, tensor in self.model.state_dict().items()},
            "optimiser": state_for_checkpoint(self.optimiser, self.weights),
            "average": [fsdp.for_checkpoint(mean) for mean in self.average],
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "norms": torch.stack(self.norms) if self.norms else torch.empty(0),
            "micro_batch": self.micro_batch,
            **self._random_states(),
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
        self.micro_batch = state["micro_batch"]
        self._restore(state, [])
