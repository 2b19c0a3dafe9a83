"""Convert FLOPs to TPUv3-core-days. Three compute quantities are kept apart; this is the only conversion. Without torch.

A: pre-training compute as published by its authors. B: analytic FLOPs, one multiply-add = 2. C: measured by vitbench.
B is converted by F / (5.314 exaFLOP x U), with utilisation U; the result is marked as estimated and has a range
(docs/protocols.md#compute-accounting).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

CORE_DAY_FLOPS = 61.5e12 * 86_400  # a TPUv3 core at its peak for a day (compute/hardware.yaml): 5.314 exaFLOP
UTILISATION = 0.38  # reproduces the three published pairs of the ViT paper within 20 %
UTILISATION_BAND = (0.32, 0.43)  # implied by two of these pairs separately
TRAINING_PASSES = 3  # one forward pass, and a backward pass of twice its FLOPs


@dataclass(frozen=True)
class CoreDays:
    """TPUv3-core-days estimated from FLOPs, with a range for the utilisations that published pairs imply."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g}, estimated)"


def core_days(flops: float) -> CoreDays:
    """Estimate the TPUv3-core-days of a number of FLOPs."""
    at_peak = flops / CORE_DAY_FLOPS
    low, high = UTILISATION_BAND
    return CoreDays(at_peak / UTILISATION, at_peak / high, at_peak / low)


def training_flops(flops_per_image: float, images: float) -> float:
    """Return the FLOPs of training on `images` images, forward and backward."""
    return TRAINING_PASSES * flops_per_image * images


class Device(BaseModel):
    """Published peak throughput of a device: dense 16-bit matrix products, float32 accumulation; its memory, if known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    unit: str
    peak_tflops: float
    dtype: str
    grade: str
    source: str
    float32_tflops: float | None = None
    memory_gb: float | None = None
    memory_gb_s: float | None = None
    memory_source: str = ""


@cache
def devices() -> tuple[Device, ...]:
    """Return all devices of hardware.yaml, in file order."""
    import yaml

    text = Path(__file__).with_name("hardware.yaml").read_text(encoding="utf-8")
    return tuple(Device.model_validate(row) for row in yaml.safe_load(text))
