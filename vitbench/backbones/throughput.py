"""Measure the forward throughput of a backbone on a device, in FLOPs per second."""

from __future__ import annotations

import time

import torch

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.flops import forward_flops


@torch.no_grad()
def rate(shape: BuiltBackbone, device: str, dtype: str, seconds: float) -> float:
    """Return FLOPs per second of forward passes, timed for `seconds`.

    `shape` is a backbone on the meta device. Its weights are set to zero: values do not affect speed.
    """
    size_px = shape.input.size_px
    flops = forward_flops(shape, size_px) or 0
    backbone = shape.to_empty(device=device)
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        tensor.zero_()
    batch = 64 if device.startswith("cuda") else max(min(32, int(2e10 // max(flops, 1))), 1)
    images = torch.zeros(batch, 3, size_px, size_px, device=device)

    def forward_s() -> float:
        start = time.perf_counter()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
            backbone.features(images)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    deadline = time.perf_counter() + seconds
    taken = [forward_s()]  # warm-up; counts only if there is no time for another pass
    while time.perf_counter() < deadline:
        taken.append(forward_s())
    backbone.to("meta")
    counted = taken[1:] or taken
    return flops * batch * len(counted) / sum(counted)
