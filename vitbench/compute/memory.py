"""Peak memory of a job: torch's counter on a GPU; on a CPU, the highest resident memory of the process."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import sys
from pathlib import Path

import torch

PROC = Path("/proc/self")
RESET_PEAK = "5"  # what Linux takes in clear_refs for "forget the highest resident memory" (man 5 proc)


def peak_bytes(device: str) -> int:
    """Return the highest memory in bytes since the last `reset_peak`; on a CPU other than Linux's, since the process began."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (PROC / "status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak(device: str) -> None:
    """Forget the peak so far. Call this through a meter: the peak of the job that it measures must not be lost."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        (PROC / "clear_refs").write_text(RESET_PEAK, encoding="utf-8")


def return_unused(device: str) -> None:
    """Return to the system what earlier jobs have freed: glibc keeps it (see `environment.settle`), and it is resident."""
    if not device.startswith("cuda") and sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
