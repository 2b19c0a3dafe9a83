"""What a job used: seconds by phase, FLOPs, memory and energy, shared features included."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field

from vitbench.core.job import Frozen

Count = Annotated[int, Field(ge=0, lt=2**63)]  # as in a column of a table: Parquet has no larger integers
Amount = Annotated[float, Field(ge=0, le=1e27)]  # no machine has done more than a ten-thousandth of this


# Phases outside a job's cost: their length depends on what its process and its caches have seen before
# (docs/protocols.md#compute-accounting).
Outside = Literal["build", "data", "warm-up", "images", "cache", "checkpoints"]
OUTSIDE: tuple[str, ...] = get_args(Outside)


class Extraction(Frozen):
    """Features that a job reads, and what computing them took, whichever job did it; None: not measured."""

    key: str = Field(description="of the features in the cache")
    images: Count
    shared: bool = Field(description="read from the cache: another job, or an earlier attempt, computed them")
    device: str = ""
    devices: Count = Field(default=1, ge=1)
    seconds: Amount | None = Field(default=None, description="on each device")
    core_seconds: Amount | None = Field(default=None, description="on a CPU: of all threads and devices")
    flops: Annotated[int, Field(ge=0, le=10**27)] | None = None
    energy_joules: Amount | None = Field(default=None, description="of all devices, by NVML")
    peak_memory_bytes: Count | None = None
    created: str = ""
    compiled: str = Field(
        default="", description="by what, and how near to the network as it is; empty: not compiled"
    )


class Cost(Frozen):
    """What the job used here, shared features included: seconds by phase, FLOPs, memory, and GPU energy. Never part of a score.

    `seconds` are those of each of the `devices`. Records of older versions have no `extractions` and no `overhead`; their
    `seconds` also contain `build` and `data`, and `features` only if the job itself computed some.
    """

    seconds: dict[str, Amount]
    device: str
    device_kind: Literal["cpu", "cuda"]
    peak_memory_bytes: Count = Field(description="the highest, on the device that used most")
    flops_per_image: Count | None
    images_forward: Count
    images_backward: Count
    trained_parameters: Count | None = Field(default=None, description="None: a probe's head, or not known")
    energy_joules: Amount | None = Field(default=None, description="of all devices, by NVML")
    core_seconds: Amount | None = Field(default=None, description="on a CPU: of all threads and devices")
    devices: Count = Field(default=1, ge=1, description="that worked on the job together")
    extractions: tuple[Extraction, ...] | None = None
    overhead: dict[str, Amount] = Field(default={}, description="seconds that are not part of the cost")

    @property
    def work_s(self) -> float:
        """Seconds of this job's own work: without shared features, and without overhead."""
        return self._phases_s + math.fsum(e.seconds or 0.0 for e in self.extractions or () if not e.shared)

    @property
    def total_s(self) -> float:
        """Seconds that the job took, overhead included."""
        outside = (value for phase, value in self.seconds.items() if phase in OUTSIDE)
        return self.work_s + math.fsum(outside) + math.fsum(self.overhead.values())

    @property
    def device_seconds(self) -> float | None:
        """The job's cost in device-seconds, shared features included; None if part of it is not known."""
        return self.least_device_seconds if self.is_known else None

    @property
    def least_device_seconds(self) -> float:
        """The known part of the cost in device-seconds."""
        shared = math.fsum((e.seconds or 0.0) * e.devices for e in self.extractions or ())
        return self._phases_s * self.devices + shared

    @property
    def shared_device_seconds(self) -> float | None:
        """The part of `device_seconds` that other jobs, or earlier attempts, spent on extracting features; None: not known."""
        shared = [each for each in self.extractions or () if each.shared]
        known = self.is_known and self.extractions is not None
        return math.fsum((each.seconds or 0.0) * each.devices for each in shared) if known else None

    @property
    def is_known(self) -> bool:
        """Whether all of the cost is known: older records lack that of features which other jobs had computed."""
        if self.extractions is None:
            return self.images_backward > 0
        return all(e.seconds is not None for e in self.extractions)

    @property
    def _phases_s(self) -> float:
        """Seconds of all phases that are part of the cost, but for features that are listed in `extractions`."""
        apart = OUTSIDE if self.extractions is None else (*OUTSIDE, "features")
        return math.fsum(value for phase, value in self.seconds.items() if phase not in apart)
