"""What a record states of a backbone, its data, its cost and where it ran: typed, immutable, nothing unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Weights = Literal["pretrained", "untrained", "none", "unknown"]


class Frozen(BaseModel):
    """Base of all stored data: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy that works out anew what pydantic would carry along: cached properties."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


class BackboneFacts(Frozen):
    """What was evaluated: read off the built model, not off its name."""

    family: str
    weights: Weights
    pretrain_data: str
    source: str
    params: int
    feature_dim: int
    size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_digest: str
    weights_loaded: int | None = None
    weights_missing: int | None = None
    weights_unexpected: int | None = None
    trained_on: tuple[str, ...] = ()
    pretrain_tpu_v3_core_days: float | None = None
    licence: str = ""


class DataFacts(Frozen):
    """What was learned from and scored on."""

    group: str
    dataset: str = ""
    num_classes: int
    n_train: int
    n_val: int
    n_test: int
    fingerprints: dict[str, str]
    skipped: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    version: str = Field(default="", description="version of the prepared data set")


class Confusion(Frozen):
    """What a network takes for what, on the test images.

    Up to 12 classes: their names and all counts, `matrix[true][predicted]`. More: the most frequent mistakes alone, as
    (true, predicted, how often).
    """

    classes: tuple[str, ...] = ()
    matrix: tuple[tuple[int, ...], ...] = ()
    mistakes: tuple[tuple[str, str, int], ...] = ()


class Cost(Frozen):
    """What the job took here: device-seconds by phase, analytic FLOPs, memory, and a GPU's energy. Never part of a score."""

    seconds: dict[str, float]
    device: str
    device_kind: Literal["cpu", "cuda"]
    peak_memory_bytes: int
    flops_per_image: int | None
    images_forward: int
    images_backward: int
    energy_joules: float | None = Field(default=None, description="of the whole GPU meanwhile, by NVML")

    @property
    def work_s(self) -> float:
        """Seconds without building the backbone and opening the data."""
        return sum(value for phase, value in self.seconds.items() if phase not in ("build", "data"))

    @property
    def total_s(self) -> float:
        """Seconds of all phases together."""
        return sum(self.seconds.values())


class Env(Frozen):
    """Where the job ran."""

    python: str
    platform: str
    device: str
    threads: int
    packages: dict[str, str]
    git_commit: str
