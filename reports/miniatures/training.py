"""One pre-training: a network, a schedule of its own, and a record of what it took.

Everything random comes from NumPy's PCG64, whose stream no version changes and no device sees: initial weights, the images of
a step and how each is altered. In float32 without TF32, so a CPU follows the same loss curve until rounding has grown.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from images import SEED, SIZE, TOTAL
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

BATCH = 128
WARMUP = 0.1  # of all steps
WEIGHT_DECAY, CLIP_NORM = 0.05, 1.0
DECORRELATION = 0.005  # weight of the features' correlations, as in VICReg (arXiv 2105.04906); ridge probes suffer from them
RATES = (1e-3, 2e-3, 4e-3, 8e-3)  # peaks of the smallest budget; the best by held-out accuracy is kept
RATE_POWER = (
    -0.25
)  # of a larger budget's peak, by its steps relative to the smallest's: longer training wants smaller steps
SHIFT_PX = 3
FIRST_LOSSES = 40  # kept one by one, to compare a later repetition with
CURVE_POINTS = 100
Log = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """The images of a step (B,), and how each is altered: five numbers in [0, 1) (B, 10)."""

    positions: Tensor
    numbers: Tensor


def orders(images: int, steps: int, seed: int, pinned: bool = False) -> Iterator[Order]:
    """The steps' images and alterations; those of a step do not depend on how many follow."""
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([SEED, seed])))
    for _ in range(steps):
        numbers = stream.random((BATCH, 11))
        positions = torch.from_numpy((numbers[:, 0] * images).astype(np.int64))
        rest = torch.from_numpy(numbers[:, 1:].astype(np.float32))
        yield Order(*(part.pin_memory() if pinned else part for part in (positions, rest)))


def normalised(pixels: Tensor) -> Tensor:
    """Images (B, 32, 32, 3) uint8 as the networks take them, (B, 3, 32, 32)."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def altered(pixels: Tensor, numbers: Tensor) -> Tensor:
    """Shifted by up to 3 px, a third of them reduced to 16 or 8 px and enlarged again, of another brightness and contrast."""
    size, count = pixels.shape[1], len(pixels)
    moves = (numbers[:, :2] * (2 * SHIFT_PX + 1)).long() - SHIFT_PX
    place = torch.arange(size, device=pixels.device)
    rows, columns = ((place + move[:, None]).clamp(0, size - 1) for move in moves.unbind(1))
    every = torch.arange(count, device=pixels.device)[:, None, None]
    images = normalised(pixels[every, rows[:, :, None], columns[:, None, :]])
    for factor, (low, high) in {2: (0.0, 0.17), 4: (0.17, 0.33)}.items():
        small = functional.avg_pool2d(images, factor)
        blurred = functional.interpolate(small, scale_factor=factor, mode="bilinear")
        chosen = (numbers[:, 2] >= low) & (numbers[:, 2] < high)
        images = torch.where(chosen[:, None, None, None], blurred, images)
    gain = 0.95 + 0.1 * numbers[:, 3:4] + 0.04 * (numbers[:, 4:7] - 0.5)
    offset = 0.06 * (numbers[:, 7:10] - 0.5)
    return images * gain[:, :, None, None] + offset[:, :, None, None]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def network(family: str, initialise: Callable[[nn.Module, int], None]) -> nn.Module:
    """A network with a new classifier, whose initial weights depend on the family alone."""
    model: nn.Module = timm.create_model(f"mini_{family}", num_classes=TOTAL)
    initialise(model, SEED)
    return model


def flops_per_image(model: nn.Module) -> int:
    """Of a forward pass with the classifier, a multiply-add counted as two; without arithmetic, so that no kernel is missed."""
    shape = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape(torch.zeros(1, 3, SIZE, SIZE, device="meta"))
    return int(counter.get_total_flops())


def correlation(features: Tensor) -> Tensor:
    """The squared correlations of every feature (B, D) with all others, summed, in the mean over features."""
    centred = features - features.mean(0)
    standardised = centred / (centred.square().mean(0).sqrt() + 1e-4)
    found = standardised.T @ standardised / len(features)
    return (found.square().sum() - found.diagonal().square().sum()) / found.shape[0]


class Training:
    """A network, its optimiser and its schedule; `step` learns from one batch and returns the loss."""

    def __init__(self, model: nn.Module, steps: int, peak: float) -> None:
        self.model, self.steps, self.peak, self.done = model.train(), steps, peak, 0
        decayed = [weight for weight in model.parameters() if weight.ndim > 1]
        others = [weight for weight in model.parameters() if weight.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        fused = next(model.parameters()).is_cuda
        self.optimiser = torch.optim.AdamW(groups, lr=self.peak, betas=(0.9, 0.98), fused=fused)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.done, self.steps, self.peak)
        model: Any = self.model
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        classifier = model.get_classifier()
        logits = functional.linear(features, classifier.weight.flatten(1), classifier.bias)
        loss = functional.cross_entropy(logits, labels)
        total = loss + DECORRELATION * correlation(features)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM, foreach=True)
        self.optimiser.step()
        self.done += 1
        return loss.detach()


def train(
    model: nn.Module, pixels: Tensor, labels: Tensor, steps: int, peak: float, seed: int, log: Log
) -> dict[str, Any]:
    """Train on images (N, 32, 32, 3) that are on the network's device; what happened, ready for JSON."""
    device = pixels.device
    run, losses = Training(model, steps, peak), torch.zeros(steps, device=device)
    begun = time.perf_counter()
    for step, order in enumerate(orders(len(pixels), steps, seed, pinned=pixels.is_cuda)):
        positions, numbers = (part.to(device, non_blocking=True) for part in (order.positions, order.numbers))
        losses[step] = run.step(altered(pixels[positions], numbers), labels[positions])
        if (step + 1) % max(1, steps // 8) == 0:
            recent = float(losses[max(0, step - 49) : step + 1].mean())
            rate = (step + 1) * BATCH / (time.perf_counter() - begun)
            log(f"{step + 1}/{steps} loss {recent:.3f} {rate:,.0f} images/s")
    curve = losses.cpu().double()  # waits for the device
    seconds = time.perf_counter() - begun
    blocks = np.array_split(curve.numpy(), min(CURVE_POINTS, steps))
    return {
        "steps": steps, "batch_size": BATCH, "images_seen": steps * BATCH, "peak_learning_rate": peak,
        "seconds": round(seconds, 2),
        "final_loss": round(float(curve[-max(1, steps // 50) :].mean()), 4),
        "first_losses": [round(value, 6) for value in curve[:FIRST_LOSSES].tolist()],
        "loss_curve": [round(float(block.mean()), 4) for block in blocks],
    }  # fmt: skip


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """The fraction of unaltered images whose category is the network's first choice."""
    model.eval()
    right = sum(
        int((model(normalised(some)).argmax(1) == truth).sum())
        for some, truth in zip(pixels.split(1024), labels.split(1024), strict=True)
    )
    model.train()
    return round(right / len(pixels), 4)
