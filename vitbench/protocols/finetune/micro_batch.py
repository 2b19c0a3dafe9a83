"""The micro-batch size for gradient accumulation: found by trial on a GPU, fixed on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vitbench.compute.batch_size import LARGE_PX, BatchSize
from vitbench.protocols.finetune import fsdp

LARGE_ON_CPU, ON_CPU, SMALL_ON_CPU = 8, 32, 256
# Pixels per micro-batch of small images: ViT-Ti/16 and ResNet-18 are fastest at this size. Time relative to micro-batches of
# 32: 0.65 at 32 px with micro-batches of 256, 0.90 at 64 px with 64; at 96 and 224 px no other size is faster (two cores).
SMALL_PIXELS = 64 * 64 * 64


def on_cpu(size_px: int) -> int:
    """Return the micro-batch size on a CPU, from the image size only: results must not depend on the machine's memory."""
    if size_px >= LARGE_PX:
        return LARGE_ON_CPU
    fitting = max(SMALL_PIXELS // size_px**2, 1)
    return min(max(1 << (fitting.bit_length() - 1), ON_CPU), SMALL_ON_CPU)


def size_for(
    model: torch.nn.Module,
    batch: Tensor,
    dtype: str,
    moments: int = 1,
    set_training: Callable[[], object] | None = None,
) -> int:
    """Return the micro-batch size for training a model with a head on a batch (B, 3, S, S): a power of two, or B if smaller.

    On a GPU this runs forward and backward passes on made-up images; weights and buffers are unchanged afterwards. `moments` is
    the number of tensors per weight that the optimiser keeps; `set_training` sets the mode that steps run in.

    Raises:
        torch.OutOfMemoryError: a single image does not fit.
        RanksOutOfStepError: the model is sharded, and one of the trials does not fit.
    """
    device, size_px = str(batch.device), batch.shape[-1]
    if not device.startswith("cuda"):
        return min(on_cpu(size_px), len(batch))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    held = [torch.empty_like(weight) for weight in weights for _ in range(moments)]
    for weight in weights:  # allocated before the first trial, so that every trial counts them
        weight.grad = torch.zeros_like(weight)

    def step(images: Tensor) -> Tensor:
        if not fsdp.is_sharded(model):
            return passes(images)
        try:
            return passes(images)
        except torch.OutOfMemoryError as error:
            raise fsdp.RanksOutOfStepError(len(images)) from error

    def passes(images: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        logits.float().logsumexp(1).sum().backward()
        return cast("Tensor", logits.detach())

    size = BatchSize(device, size_px, {}, Path("/nowhere"))
    (set_training or model.train)()
    try:
        found = size.measure(step)
    finally:
        held.clear()  # allocated only to occupy the memory that the optimiser will need
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():  # undo the running statistics of the made-up images
            buffer.copy_(before[name])
    return min(found, len(batch))


@torch.no_grad()
def count_correct(backbone: Any, head: Any, images: Tensor, labels: Tensor, dtype: str) -> Tensor:
    """Count the normalised images (B, 3, S, S) classified correctly, as a scalar tensor that is still on the device."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        features = backbone.features(images.contiguous(memory_format=torch.channels_last))
    return cast("Tensor", (head(features.float()).argmax(1) == labels).sum())
