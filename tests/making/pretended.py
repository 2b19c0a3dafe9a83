"""A pretended GPU for processes of their own: torch's CUDA code runs, and no kernel computes anything (see pretended_gpu/)."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "pretended_gpu"
COUNTERS = ("synchronisations", "launches", "pageable_copies", "pinned_allocations", "drains")


def headers():
    """The folder of CUDA's headers that came with torch; None if there is none."""
    found = sorted(Path(torch.__file__).parents[1].glob("nvidia/cu*/include/cuda_runtime_api.h"))
    return found[0].parent if found else None


def why_not():
    """Why there can be no pretended GPU here; empty if there can."""
    if sys.platform != "linux" or torch.version.cuda is None:
        return "torch is built without CUDA here"
    if torch.cuda.is_available():
        return "there is a real GPU here: tests/gpu are for it"
    if shutil.which("cc") is None:
        return "there is no C compiler here"
    return "" if headers() else "torch came without CUDA's headers here"


def build(folder):
    """Compile the libraries into a folder; return the variables of a process that has the GPU."""
    compile_ = ["cc", "-shared", "-fPIC", "-I", SOURCES / "include", "-I", headers()]
    preloaded = folder / "libpretended.so"
    subprocess.run([*compile_, *SOURCES.glob("cu[dab]*.c"), "-o", preloaded], check=True)
    subprocess.run([*compile_, SOURCES / "driver.c", "-o", folder / "libcuda.so.1"], check=True)
    # Triton, which a few of torch's operators are written in, is not pretended.
    return {"LD_PRELOAD": str(preloaded), "LD_LIBRARY_PATH": str(folder), "TORCH_DISABLE_NATIVE_JIT": "1"}


class Counts:
    """The counters of the pretended GPU of this process."""

    def __init__(self):
        library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self.values = {
            name: ctypes.c_long.in_dll(library, f"pretended_{name}") for name in (*COUNTERS, "error", "room")
        }

    def now(self):
        """All counters, in the order of COUNTERS."""
        return [self.values[name].value for name in COUNTERS]

    def set(self, name, value):
        """Set a counter, or what the GPU is to do."""
        self.values[name].value = value
