"""GPU energy from NVML's counter."""

from __future__ import annotations

import functools
from typing import Any

import torch


def joules_so_far(device: str) -> float | None:
    """Return joules since the driver was loaded; None on a CPU or without an NVML energy counter (GPUs before Volta, MIG)."""
    if not device.startswith("cuda"):
        return None
    try:
        library, handle = _handle(device)
        return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000  # NVML counts millijoules
    except Exception:  # noqa: BLE001  no NVML, no permission or no counter: must not fail the job
        return None


@functools.cache
def _handle(device: str) -> tuple[Any, Any]:
    """Return NVML and the device handle, found by UUID: NVML numbers all GPUs, torch only those in CUDA_VISIBLE_DEVICES."""
    import pynvml

    pynvml.nvmlInit()
    uuid = torch.cuda.get_device_properties(device).uuid
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
