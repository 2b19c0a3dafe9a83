"""How fast a backbone runs on a device, in FLOPs a second of forward passes."""

from __future__ import annotations

import time

import torch

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.flops import forward_flops


@torch.no_grad()
def rate(shape: BuiltBackbone, device: str, dtype: str, seconds: float) -> float:
    """FLOPs a second of forward passes, weights all zero: what they are does not matter to speed."""
    size_px = shape.input.size_px
    flops = forward_flops(shape, size_px) or 0
    backbone = shape.to_empty(device=device)
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        tensor.zero_()
    batch = 64 if device.startswith("cuda") else max(min(32, int(2e10 // max(flops, 1))), 1)
    images = torch.zeros(batch, 3, size_px, size_px, device=device)

    def passed() -> float:
        begun = time.perf_counter()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
            backbone.features(images)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    until = time.perf_counter() + seconds
    taken = [passed()]  # warms up, and counts only if there is time for no other
    while time.perf_counter() < until:
        taken.append(passed())
    backbone.to("meta")
    counted = taken[1:] or taken
    return flops * batch * len(counted) / sum(counted)
