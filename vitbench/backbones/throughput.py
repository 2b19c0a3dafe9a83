"""Measure the forward throughput of a backbone on a device, in images and in FLOPs per second."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.flops import forward_flops


def rate(shape: BuiltBackbone, device: str, dtype: str, seconds: float) -> float:
    """Return FLOPs per second of forward passes, as `images_per_s` times them."""
    return images_per_s(shape, device, dtype, seconds) * (forward_flops(shape, shape.input.size_px) or 0)


@torch.no_grad()
def images_per_s(shape: BuiltBackbone, device: str, dtype: str, seconds: float) -> float:
    """Return images per second of forward passes, timed for `seconds`.

    `shape` is a backbone on the meta device. Its weights are set to zero: values do not affect speed. It runs as in a job: in
    channels-last format, and in batches that are halved until they fit.

    Raises:
        torch.OutOfMemoryError: a single image does not fit.
    """
    size_px = shape.input.size_px
    flops = forward_flops(shape, size_px) or 0
    batch = 64 if device.startswith("cuda") else max(min(32, int(2e10 // max(flops, 1))), 1)
    try:
        backbone = shape.to_empty(device=device)
        backbone.to(memory_format=torch.channels_last)
        for tensor in (*backbone.parameters(), *backbone.buffers()):
            tensor.zero_()
        while True:
            try:
                images = torch.zeros(batch, 3, size_px, size_px, device=device)
                images = images.contiguous(memory_format=torch.channels_last)
                return batch / _forward_s(backbone, images, dtype, seconds)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
    finally:
        shape.to("meta")


def _forward_s(backbone: BuiltBackbone, images: Tensor, dtype: str, seconds: float) -> float:
    """Return the mean seconds of a forward pass, after one that warms up, which counts if there is time for no other."""
    on_gpu = images.device.type == "cuda"

    def forward_s() -> float:
        start = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            backbone.features(images)
        if on_gpu:
            torch.cuda.synchronize(images.device)
        return time.perf_counter() - start

    deadline = time.perf_counter() + seconds
    taken = [forward_s()]
    while time.perf_counter() < deadline:
        taken.append(forward_s())
    counted = taken[1:] or taken
    return statistics.fmean(counted)
