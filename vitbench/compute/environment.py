"""The environment of a job: device choice, worker settings for reproducible and fast arithmetic, and recorded versions."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.core.errors import UsageError
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Env

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

PACKAGES = ("vitbench", "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow", "simplejpeg")


def choose_device(wanted: str) -> str:
    """Return the device to run on: `cpu`, `cuda` or `cuda:N` as requested; `auto` chooses a GPU if there is one.

    Raises:
        UsageError: the name is invalid, or torch sees no such GPU.
    """
    if wanted == "auto":
        return "cuda" if ("torch" in sys.modules or _has_driver()) and torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", wanted):
        raise UsageError(f"--device {wanted}: expected cpu, cuda, cuda:N or auto")
    if wanted != "cpu":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"--device {wanted}: torch sees no GPU here; use --device cpu or auto")
        if int(wanted.partition(":")[2] or 0) >= count:
            raise UsageError(f"--device {wanted}: torch sees {count} GPU(s), numbered from cuda:0")
    return wanted


def use(device: str) -> None:
    """Make a GPU the current device of this process, and initialise CUDA; its counters cannot be read before."""
    if device.startswith("cuda"):
        torch.cuda.init()
        if ":" in device:
            torch.cuda.set_device(device)


def _has_driver() -> bool:
    """Whether this machine may have a GPU that torch sees. Importing torch to learn that there is none takes seconds."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # AMD's devices; elsewhere torch is asked
        return True
    try:
        ctypes.CDLL("libcuda.so.1")  # as torch does
    except OSError:
        return False
    return True


def spoils_process(error: BaseException | None) -> bool:
    """Whether an error is, or follows from, one of the accelerator, such as an illegal address.

    Most of these corrupt the CUDA context, and every later call in the process fails. Running out of memory does not.
    """
    while error is not None and not isinstance(error, torch.AcceleratorError):
        error = error.__cause__ or error.__context__
    return error is not None


def cores() -> int:
    """Return the number of CPU cores that this process may use: a batch system may allot fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle(threads: int | None) -> None:
    """Apply the settings of a worker process: thread count, no TF32, and on glibc no memory returned to the system.

    By default glibc returns torch's large activations to the system after each operation, and the next one faults the pages in
    again; keeping the memory makes EfficientNet-B0 2.7 times faster on a CPU (docs/protocols.md#cpu-memory).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


@functools.cache
def describe(device: str) -> Env:
    """Return the environment to store in a record."""
    return Env(
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        device=device_name(device),
        threads=torch.get_num_threads(),
        packages={package: _version(package) for package in PACKAGES},
        git_commit=_git_commit(),
    )


def device_name(device: str) -> str:
    """The name of the GPU or the processor."""
    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else _cpu_name()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str:
    """Return the git commit of the checkout that vitbench is imported from; empty if there is none."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
