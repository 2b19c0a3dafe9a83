"""Three compute quantities that are never mixed, and the one conversion between two of them. No torch here.

A: pre-training cost as its authors published it. B: analytic FLOPs, 1 multiply-add = 2. C: what was measured here.
B becomes TPUv3-core-days by F / (5.314 exaFLOP x U), always marked as estimated and with its range (facts/performance.md F).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

CORE_DAY_FLOPS = 61.5e12 * 86_400  # a TPUv3 core's peak for a day (compute/hardware.yaml), 5.314 exaFLOP
UTILISATION = 0.38  # with which the ViT paper's three published pairs are met within 20 %
UTILISATION_BAND = (0.32, 0.43)  # what two of these pairs imply each for itself
TRAINING_PASSES = 3  # forward, and a backward pass of twice its FLOPs


@dataclass(frozen=True)
class CoreDays:
    """TPUv3-core-days estimated from FLOPs, with the range of utilisations that published pairs imply."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g}, estimated)"


def core_days(flops: float) -> CoreDays:
    """TPUv3-core-days of so many FLOPs; estimated, never measured."""
    at_peak = flops / CORE_DAY_FLOPS
    least, most = UTILISATION_BAND
    return CoreDays(at_peak / UTILISATION, at_peak / most, at_peak / least)


def training_flops(flops_per_image: float, images: float) -> float:
    """FLOPs of training on so many images."""
    return TRAINING_PASSES * flops_per_image * images


class Device(BaseModel):
    """A device's published peak, dense 16-bit matrix products with float32 sums."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    unit: str
    peak_tflops: float
    dtype: str
    grade: str
    source: str


@cache
def devices() -> tuple[Device, ...]:
    """All devices that are known, in the file's order."""
    import yaml

    text = Path(__file__).with_name("hardware.yaml").read_text(encoding="utf-8")
    return tuple(Device.model_validate(row) for row in yaml.safe_load(text))
