"""How many images of a global batch go through at once: tried with real steps on a GPU, fixed on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vitbench.compute.batch_size import LARGE_PX, BatchSize

LARGE_ON_CPU, ON_CPU, SMALL_ON_CPU = 8, 32, 256
# Of small images as many go together as have so many pixels. Steps of ViT-Ti/16 and ResNet-18 are fastest there, in time for
# pieces of 32: at 32 px 0.65 in pieces of 256, at 64 px 0.90 in pieces of 64; at 96 and 224 px none is faster (two cores).
SMALL_PIXELS = 64 * 64 * 64


def on_cpu(size_px: int) -> int:
    """Images at once on a CPU: by their size alone, so that results do not depend on the machine's memory."""
    if size_px >= LARGE_PX:
        return LARGE_ON_CPU
    fitting = max(SMALL_PIXELS // size_px**2, 1)
    return min(max(1 << (fitting.bit_length() - 1), ON_CPU), SMALL_ON_CPU)


def micro_batch(model: torch.nn.Module, batch: Tensor, dtype: str) -> int:
    """Of a batch (B, 3, S, S) the images at once through a model with a head: a power of two, at most B."""
    device, size_px = str(batch.device), batch.shape[-1]
    if not device.startswith("cuda"):
        return min(on_cpu(size_px), len(batch))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    momentum = [torch.empty_like(weight) for weight in weights]
    for weight in weights:  # before the first trial, or the second would be charged for them
        weight.grad = torch.zeros_like(weight)

    def step(images: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        logits.float().logsumexp(1).sum().backward()
        return cast("Tensor", logits.detach())

    size = BatchSize(device, size_px, {}, Path("/nowhere"))
    model.train()
    try:
        found = size.tried(step)
    finally:
        momentum.clear()  # it was there to take its room
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():  # running statistics saw made-up images
            buffer.copy_(before[name])
    return min(found, len(batch))


@torch.no_grad()
def hits(backbone: Any, head: Any, images: Tensor, labels: Tensor, dtype: str) -> Tensor:
    """How many of normalised images (B, 3, S, S) are classified right; a tensor, so that nothing waits."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        features = backbone.features(images.contiguous(memory_format=torch.channels_last))
    return cast("Tensor", (head(features.float()).argmax(1) == labels).sum())
