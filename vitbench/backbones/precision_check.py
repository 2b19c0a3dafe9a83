"""How far features are from those in float32 on the CPU: in float32 on another device, and in bfloat16."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitbench.backbones.batch_norm_check import normalised, regions
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.quick_check import Finding
from vitbench.compute.environment import choose_device, settle

Precision = Literal["float32", "bfloat16"]


def precision_findings(backbone: BuiltBackbone, device: str, dtype: Precision | None) -> list[Finding]:
    """One finding for each way to compute features that is not float32 on the CPU; the backbone is left on the CPU.

    Images are regions of photographs, so that features are as different as those of real images are.
    """
    device = choose_device(device)
    settle(None)  # as in a job: no TF32
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    size_px = backbone.input.size_px
    images = normalised(regions(size_px), backbone.input.mean, backbone.input.std)
    exact = _features(backbone, images, "cpu", "float32")
    ways: list[tuple[str, Precision]] = []
    if device != "cpu":
        ways.append((device, "float32"))
    if dtype != "float32":
        ways.append((device, dtype))
    return [_finding(exact, _features(backbone, images, *way), *way) for way in ways]


def _finding(exact: Tensor, found: Tensor, device: str, dtype: Precision) -> Finding:
    item = f"{dtype} on {device}"
    if not found.isfinite().all():
        return Finding(item, False, "features are NaN or infinite")
    errors = (found - exact).norm(dim=1)
    nothing = torch.finfo(torch.float64).tiny
    of_norm = float((errors / exact.norm(dim=1).clamp_min(nothing)).median())
    of_distance = float(errors.median() / torch.pdist(exact).median().clamp_min(nothing))
    text = (
        f"features are {of_norm:.2g} of their norm away from float32 on the CPU, {of_distance:.2g} of the distance "
        f"between two images (medians of {len(exact)} images)"
    )
    return Finding(item, True, text)


@torch.no_grad()
def _features(backbone: BuiltBackbone, images: Tensor, device: str, dtype: Precision) -> Tensor:
    """Features (B, D) float64 on the CPU, computed as in a job."""
    backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"):
            found = backbone.features(images.to(device).contiguous(memory_format=torch.channels_last))
    finally:
        backbone.to("cpu")
    return found.cpu().double()
