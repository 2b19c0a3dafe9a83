"""How many pictures of a global batch go through at once: tried with real steps on a GPU, fixed on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vitbench.batch_size import LARGE_PX, BatchSize

ON_CPU = 32
LARGE_ON_CPU = 8


def micro_batch(model: torch.nn.Module, batch: Tensor, dtype: str) -> int:
    """Of a batch (B, 3, S, S) the images at once through a model with a head: a power of two, at most B.

    On a CPU it is fixed, so that results do not depend on the machine's memory.
    """
    device, size_px = str(batch.device), batch.shape[-1]
    if not device.startswith("cuda"):
        return min(ON_CPU if size_px < LARGE_PX else LARGE_ON_CPU, len(batch))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    momentum = [torch.empty_like(weight) for weight in model.parameters() if weight.requires_grad]

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
