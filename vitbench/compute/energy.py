"""Energy that a GPU has taken, by NVML's own counter."""

from __future__ import annotations

import functools
from typing import Any

import torch


def joules_so_far(device: str) -> float | None:
    """Joules since the driver was loaded; None for a CPU, and for GPUs whose driver has no such counter (before Volta, MIG)."""
    if not device.startswith("cuda"):
        return None
    try:
        library, handle = _handle(device)
        return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000  # NVML counts millijoules
    except Exception:  # noqa: BLE001  no NVML, no right to it, or no counter: a cost is not worth a job
        return None


@functools.cache
def _handle(device: str) -> tuple[Any, Any]:
    """NVML and its handle, found by UUID: NVML numbers all GPUs, torch those in CUDA_VISIBLE_DEVICES."""
    import pynvml

    pynvml.nvmlInit()
    uuid = torch.cuda.get_device_properties(device).uuid
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
