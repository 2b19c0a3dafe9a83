"""The training of a grid of heads: every step passes its images through the frozen backbone once, whatever the grid.

A step does not wait for the device: losses stay there until they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitbench.compute.batch_size import LARGE_ON_CPU, LARGE_PX, ON_CPU, BatchSize
from vitbench.core.errors import UsageError
from vitbench.protocols.finetune.snapshot import snapshot
from vitbench.protocols.heads.batch_norm import BatchNorm
from vitbench.protocols.heads.optimisers import Optimiser
from vitbench.protocols.heads.recipe import SCALED_TO, HeadRecipe
from vitbench.protocols.heads.stack import Heads, stacks_of

Read = dict[str, Tensor]  # what heads read of some images, by the name of the input
Reader = Callable[[Tensor], Read]


class HeadTrainer:
    """Trains heads on what `read` gives of images (B, 3, S, S): `step` by step, with a `state` for checkpoints.

    `heads` are the heads of each input. A step goes through its batch in pieces that fit the memory; with `batch_norm`, what
    all pieces give is normalised over so many images at a time, and the first of these groups moves the running statistics, as
    the first GPU does where each has a group (torch's DistributedDataParallel).
    """

    def __init__(self, heads: dict[str, Heads], read: Reader, recipe: HeadRecipe, size_px: int) -> None:
        self.heads, self.read_images, self.recipe = heads, read, recipe
        self.weights = [weight for each in heads.values() for weight in each.weights.values()]
        self.device, self.size_px = str(self.weights[0].device), size_px
        batch_rate = recipe.batch_size / SCALED_TO
        stacks = [stack for each in heads.values() for stack in stacks_of(each, batch_rate)]
        self.optimiser = Optimiser(stacks, recipe)
        self.norms: dict[str, BatchNorm] = {}
        if recipe.batch_norm:
            self.norms = {
                name: BatchNorm(each.weights["weight"][:, 0].detach()) for name, each in heads.items()
            }
        self.steps_done = 0
        self.losses: list[Tensor] = []
        self.piece = 0  # images per forward pass, known from the first step on

    def step(self, images: Tensor, labels: Tensor, global_size: int | None = None) -> None:
        """Update all heads on a batch of normalised images (B, 3, S, S) with labels (B,).

        Raises:
            UsageError: BatchNorm is given one image.
            torch.OutOfMemoryError: a single image does not fit.
        """
        del global_size
        totals: list[Tensor] = []
        losses = torch.zeros(len(self.points), device=self.device)
        for found, gradients in self._parts(images, labels):
            losses += found / len(images)
            if totals:
                torch._foreach_add_(totals, gradients)
            else:
                totals = gradients
        torch._foreach_div_(totals, float(len(images)))
        self.optimiser.step(totals, self.recipe.factor(self.steps_done))
        self.losses.append(losses)
        self.steps_done += 1

    @property
    def points(self) -> list[Any]:
        """All heads, input by input."""
        return [point for each in self.heads.values() for point in each.points]

    def _parts(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield summed losses (K,) and gradients, part by part of a batch."""
        if not self.norms:
            yield from self._in_pieces(lambda x, y: self._gradients(self.read_images(x), y), images, labels)
            return
        if len(images) == 1:
            raise UsageError("batch_norm needs batches of two images or more")
        pieces = list(self._in_pieces(lambda x, _y: self.read_images(x), images, labels))
        read = {name: torch.cat([piece[name] for piece in pieces]) for name in self.heads}
        groups = -(-len(images) // self.recipe.batch_norm)
        for i, rows in enumerate(torch.arange(len(images), device=self.device).tensor_split(groups)):
            normed = {name: self.norms[name].train(each[rows], keep=i == 0) for name, each in read.items()}
            yield self._gradients(normed, labels[rows])

    def _gradients(self, read: Read, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses (K,) summed over images, and the gradients of all weights."""
        with torch.enable_grad():
            losses = torch.cat(
                [_losses(each.logits(read[name]), labels) for name, each in self.heads.items()]
            )
            return losses.detach(), list(torch.autograd.grad(losses.sum(), self.weights))

    def _in_pieces(
        self, run: Callable[[Tensor, Tensor], Any], images: Tensor, labels: Tensor
    ) -> Iterator[Any]:
        """Yield what `run` gives of pieces of a batch, in smaller ones where memory runs out."""
        if not self.piece:
            self.piece = self._fitting()
        while len(images):
            count = min(self.piece, len(images))
            try:
                found = run(images[:count].contiguous(memory_format=torch.channels_last), labels[:count])
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                self.piece = count // 2
                torch.cuda.empty_cache()
                continue
            yield found
            images, labels = images[count:], labels[count:]

    def _fitting(self) -> int:
        """The images per forward pass: fixed on a CPU; on a GPU from the memory of two small ones, heads included."""

        def run(images: Tensor) -> Tensor:
            labels = torch.zeros(len(images), dtype=torch.long, device=self.device)
            return self._gradients(self.read_images(images), labels)[0]

        if not self.device.startswith("cuda"):
            return ON_CPU if self.size_px < LARGE_PX else LARGE_ON_CPU
        return BatchSize(self.device, self.size_px, {}, Path("/nowhere")).measure(
            run
        )  # not kept: it depends on the grid

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Class scores (B, K, C) of all heads, of normalised images (B, 3, S, S)."""

        def run(part: Tensor, _labels: Tensor) -> Tensor:
            read = self.read_images(part)
            normed = {
                name: self.norms[name].test(read[name]) if self.norms else read[name] for name in self.heads
            }
            return torch.cat([each.logits(normed[name]) for name, each in self.heads.items()], dim=1)

        return torch.cat(list(self._in_pieces(run, images, images[:, 0, 0, 0])))

    def agree(self, keep: bool, stop: bool) -> tuple[bool, bool]:
        """Whether to write a checkpoint now, and to stop: there is one process."""
        return keep, stop

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as snapshots and plain values."""
        norms = {name: _snapshots([norm.mean, norm.variance]) for name, norm in self.norms.items()}
        return {
            "steps_done": self.steps_done,
            "weights": _snapshots(self.weights),
            "moments": [_snapshots(each) for each in self.optimiser.moments],
            "norms": norms,
            "losses": snapshot(torch.stack(self.losses)) if self.losses else torch.empty(0),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.steps_done = self.optimiser.steps_done = state["steps_done"]
        _copy(self.weights, state["weights"])
        for own, saved in zip(self.optimiser.moments, state["moments"], strict=True):
            _copy(own, saved)
        for name, saved in state["norms"].items():
            _copy([self.norms[name].mean, self.norms[name].variance], saved)
        self.losses = list(state["losses"].to(self.device))


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (K,) summed over images, of scores (B, K, C) and labels (B,)."""
    images, heads, classes = logits.shape
    each = F.cross_entropy(logits.reshape(-1, classes), labels.repeat_interleave(heads), reduction="none")
    return each.view(images, heads).sum(0)


def _snapshots(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [snapshot(tensor) for tensor in tensors]


def _copy(own: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    for tensor, value in zip(own, saved, strict=True):
        tensor.copy_(value)
