"""What float32 costs on a GPU with tensor cores, said before hours are spent."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from vitbench.compute.core_days import Device
from vitbench.core.job import Job
from vitbench.engine.schedule import trains

TENSOR_CORES_FOR_BFLOAT16 = 8  # compute capability of Ampere and later
# ViT-B/16 on VTAB-1k on an H100: 54 in place of 6.7 GPU-hours a seed, by arithmetic; TF32 is off.
TIMES_AS_LONG = 8


def float32_remark(jobs: Iterable[Job], device: str, card: Device | None = None) -> str:
    """The jobs that train in float32 on such a GPU, or card that is not here, and how to change it; '' if there are none.

    torch is asked only if it is imported: a dry run of networks that are known does not import it.
    """
    name = card.id if card and card.dtype == "bf16" else "" if card else _tensor_core_gpu(device)
    count = sum(job.dtype == "float32" and trains(job) for job in jobs) if name else 0
    if not count:
        return ""
    which = f"{count:,} fine-tuning job{'s' * (count > 1)}"
    return (
        f"{which} will run in float32 on {name}, which takes about {TIMES_AS_LONG} times as long as bfloat16: "
        "add --dtype bfloat16, or `dtype: bfloat16` to the suite"
    )


def _tensor_core_gpu(device: str) -> str:
    """The name of a GPU of this machine that has tensor cores for bfloat16; '' if it has none, or torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return ""
    has = torch.cuda.get_device_capability(device)[0] >= TENSOR_CORES_FOR_BFLOAT16
    return str(torch.cuda.get_device_name(device)) if has else ""
