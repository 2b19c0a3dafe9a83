"""The gradients of the mean loss of a batch: over micro-batches that fit the memory, and over all ranks.

Nothing waits for the device. In distributed training every rank takes its part of each batch; gradients are summed during the
backward pass (see `gradient_sum`), or by FSDP2 if training does not fit one GPU.
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
from vitbench.protocols.finetune.optimiser import MOMENTS
from vitbench.protocols.recipes import Recipe


class Gradients:
    """Computes the gradients of a network of features and a head, `whole`, or of `model`, its sharded copy.

    `micro_batch` is the largest number of images per forward pass, found at the first batch (0 before), at most `most_images`,
    and halved when memory runs out. Its value affects results by rounding only, unless layers mix the images of a batch, as
    BatchNorm does, or draw random numbers, as dropout does. `notes` say whether the network was compiled.
    """

    def __init__(self, model: nn.Module, whole: nn.Sequential, recipe: Recipe, dtype: str) -> None:
        self.model, self.whole, self.recipe, self.dtype = model, whole, recipe, dtype
        self.features, self.head = whole[0], whole[1]
        self.sharded = model is not whole
        self.device = next(model.parameters()).device
        self.world_size = distributed.this_process().world_size
        self.micro_batch, self.most_images = 0, sys.maxsize
        self.batch_size = recipe.batch_size
        self.compiled: Forward | None = None  # decided at the first step
        self.notes: list[str] = []
        norms = [m for m in whole.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.has_batch_norm = bool(norms)
        # Running statistics are averaged over all ranks at every step, so that every rank scores the same model.
        self.running = [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.sums = GradientSum(self.weights) if self.world_size > 1 and not self.sharded else None

    def set_training(self) -> None:
        """Training mode, as far as the recipe has it; a sharded model is a copy."""
        self.model.train()
        features: Any = self.model[0]  # type: ignore[index]
        tuning.set_training(features.backbone, self.recipe)

    def compute(self, images: Tensor, targets: Tensor, global_size: int | None, steps_left: int) -> Tensor:
        """Compute the gradients of a batch, and return its mean loss; see `Trainer.step`."""
        if self.micro_batch == 0:
            self.micro_batch = distributed.minimum(self._fitting(images))
        self.micro_batch = min(self.micro_batch, self.most_images)
        if global_size is None:
            global_size = len(images)
            images, targets = distributed.local_rows(images), distributed.local_rows(targets)
        self.batch_size = global_size
        if self.compiled is None:
            self.compiled = self._compiled(images, steps_left)
        return self._compute(images, targets)

    def _fitting(self, images: Tensor) -> int:
        """Return the micro-batch size for a batch, by trial unless memory has run out for a trial of a sharded model before."""
        if self.sharded and self.most_images <= max(PROBE_SIZES):
            return self.most_images
        moments = MOMENTS[self.recipe.optimiser] + bool(self.sums)  # buckets are copies of the gradients
        return micro_batch.size_for(self.model, images, self.dtype, moments, self.set_training)

    def _compiled(self, images: Tensor, steps_left: int) -> Forward:
        """Features as they are computed in training: compiled where that pays, for pieces as this batch has."""
        left = steps_left * self.batch_size
        if self.sharded or not pays(self.features, self.device, left, images.shape[-1]):
            return self.features
        piece = images.tensor_split(self._num_micro_batches())[0]
        found, note = compiled(self.features, piece.contiguous(memory_format=torch.channels_last), self.dtype)
        self.notes = [note]
        return found

    def _compute(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compute gradients of the mean loss over the global batch, halving the micro-batch until it fits, and return the loss.

        Raises:
            torch.OutOfMemoryError: a micro-batch of one image does not fit.
            RanksOutOfStepError: the model is sharded, and one does not fit: ranks synchronise in every layer.
        """
        while True:
            for weight in self.weights:
                weight.grad = None
            buffers = self.whole.buffers() if self.has_batch_norm else ()
            before = [buffer.clone() for buffer in buffers]
            random = random_states(self.device)
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
            restore_random(random, self.device)
            self._restore(before)
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

    @torch.no_grad()
    def _restore(self, buffers: list[Tensor]) -> None:
        """Restore buffers such as running statistics, if any are given."""
        for buffer, saved in zip(self.whole.buffers() if buffers else (), buffers, strict=True):
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


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of the generators that dropout draws from, for checkpoints."""
    on_gpu = device.type == "cuda"
    return {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(device) if on_gpu else None,
    }


def restore_random(states: dict[str, Any], device: torch.device) -> None:
    """Continue from `random_states`."""
    torch.set_rng_state(states["random"].cpu())
    if states["random_cuda"] is not None:
        torch.cuda.set_rng_state(states["random_cuda"].cpu(), device)
