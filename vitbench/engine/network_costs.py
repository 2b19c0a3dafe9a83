"""What networks cost, by backbone and image size: parameters, features, FLOPs and measured speed, kept from run to run.

Counting needs torch and the network, built without weights: seconds, and 700 MiB. What was counted before is read from the
cache directory instead, and the catalog's networks are shipped counted (backbones/known_costs.py), so a dry run of known
networks imports neither. Everything is keyed by the backbone's identity, which has its code and the versions of its libraries;
a speed holds for one device, dtype and number of cores, and for a day.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.api import Protocol
from vitbench.backbones.known_costs import known_cost
from vitbench.compute.roofline import BACKWARD, PassCounts
from vitbench.core.errors import VitbenchError
from vitbench.core.files import digest_bytes, read_file, write_atomically
from vitbench.core.job import Job
from vitbench.core.lazy_import import lazy_module

if TYPE_CHECKING:
    import torch

    from vitbench.backbones import build, throughput
    from vitbench.backbones.models.wrapper import BuiltBackbone
    from vitbench.compute import compiled, environment, flops
else:
    torch = lazy_module("torch")
    build = lazy_module("vitbench.backbones.build")
    throughput = lazy_module("vitbench.backbones.throughput")
    compiled = lazy_module("vitbench.compute.compiled")
    environment = lazy_module("vitbench.compute.environment")
    flops = lazy_module("vitbench.compute.flops")

FORMAT = 1  # raised when FLOPs are counted otherwise
RATE_VALID_S = 24 * 3600


@dataclass(frozen=True)
class Rate:
    """A measured forward speed, and when it was measured (seconds since 1970)."""

    flops_per_s: float
    measured_at_s: float


@dataclass
class NetworkCost:
    """The cost of one backbone as built for one image size.

    `flops` is by the image size of the pass, `steps` by that and the protocol, `rates` by device; `convolutions` are its
    convolutional layers, which decide whether it is compiled.
    """

    params: int
    feature_dim: int
    size_px: int
    convolutions: int
    flops: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    format: int = FORMAT


class Networks:
    """The networks of a plan: their costs, from the cache or counted, and those that had to be built for it."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "networks"
        self._costs: dict[str, NetworkCost] = {}
        self._built: dict[str, BuiltBackbone] = {}
        self._rates_used: list[Rate] = []

    def cost(self, key: str, job: Job) -> NetworkCost:
        """The cost of a job's backbone under its `backbone_key`.

        Raises:
            VitbenchError: it cannot be built without weights.
        """
        if key not in self._costs:
            self._costs[key] = self._read(key) or self._shipped(job) or self._counted(key, job)
        return self._costs[key]

    @staticmethod
    def counts(job: Job, size_px: int) -> PassCounts | None:
        """What passes of a job's backbone compute and move; None if it was not counted."""
        known = known_cost(job.backbone.spec, job.backbone.options)
        return known.sizes.get(size_px) if known else None

    @staticmethod
    def device_name(device: str) -> str:
        """The name of a device."""
        return environment.device_name(device)

    def flops(self, key: str, job: Job, size_px: int) -> int:
        """FLOPs of a forward pass on one image of `size_px`.

        Raises:
            VitbenchError: the network does something that cannot be counted without data.
        """
        cost = self.cost(key, job)
        if str(size_px) not in cost.flops:
            sized = self._sized(key, job, size_px)
            counted = flops.forward_flops(sized, sized.input.size_px)
            if counted is None:
                raise VitbenchError(f"the FLOPs of {sized.name} cannot be counted")
            cost.flops[str(size_px)] = counted
            self._write(key)
        return cost.flops[str(size_px)]

    def step_flops(self, key: str, job: Job, size_px: int, protocol: Protocol) -> int:
        """FLOPs of training on one image of `size_px`: of what few parameters need, or three forward passes.

        Raises:
            VitbenchError: the network does something that cannot be counted without data.
        """
        cost = self.cost(key, job)
        place = f"{size_px} px, {digest_bytes(job.protocol.identity_text.encode())[:16]}"
        if place not in cost.steps:
            counted = protocol.step_flops(lambda: self._sized(key, job, size_px))
            if counted is None:
                return (1 + BACKWARD) * self.flops(key, job, size_px)
            cost.steps[place] = counted
            self._write(key)
        return cost.steps[place]

    def _sized(self, key: str, job: Job, size_px: int) -> BuiltBackbone:
        """A job's network at an image size, without weights."""
        with torch.device("meta"):
            found: BuiltBackbone = self._network(key, job).at_least(size_px)
        return found

    def measured(self, key: str, job: Job, device: str) -> float | None:
        """FLOPs per second on a device as measured within a day; None if they were not."""
        found = self._costs[key].rates.get(rate_key(device, job.dtype))
        return found.flops_per_s if found and 0 <= time.time() - found.measured_at_s < RATE_VALID_S else None

    def rate(self, key: str, job: Job, device: str, seconds: float) -> float:
        """FLOPs per second of forward passes on a device: as measured within a day, else measured now for some seconds."""
        place = rate_key(device, job.dtype)
        found = self._costs[key].rates.get(place)
        if found is None or self.measured(key, job, device) is None:
            environment.settle(None)
            speed = throughput.rate(self._network(key, job), device, job.dtype, seconds)
            found = self._costs[key].rates[place] = Rate(speed, time.time())
            self._write(key)
        self._rates_used.append(found)
        return found.flops_per_s

    def oldest_rate(self) -> str:
        """When the oldest speed that `rate` returned was measured; empty if there is none."""
        if not self._rates_used:
            return ""
        oldest = min(rate.measured_at_s for rate in self._rates_used)
        return datetime.fromtimestamp(oldest, UTC).isoformat(timespec="seconds")

    def _network(self, key: str, job: Job) -> BuiltBackbone:
        if key not in self._built:
            c = job.backbone
            self._built[key] = build.build(c.spec, c.options, c.label, job.resolution_px, meta=True)
        return self._built[key]

    @staticmethod
    def _shipped(job: Job) -> NetworkCost | None:
        """What is known of a network of the catalog; None if it is none, or is not built for this image size exactly."""
        known = known_cost(job.backbone.spec, job.backbone.options)
        size_px = job.resolution_px or job.backbone.options.get("size_px") or (known.size_px if known else 0)
        if known is None or size_px not in known.sizes or size_px in known.rounded:
            return None
        flops = {str(size): counts.flops for size, counts in known.sizes.items()}
        return NetworkCost(known.params, known.feature_dim, size_px, known.convolutions, flops)

    def _counted(self, key: str, job: Job) -> NetworkCost:
        backbone = self._network(key, job)
        network = backbone.trainable()
        self._costs[key] = NetworkCost(
            network.params, backbone.feature_dim, backbone.input.size_px, compiled.convolutions(network)
        )
        self._write(key)
        return self._costs[key]

    def _place(self, key: str) -> Path:
        return self._folder / f"{digest_bytes(key.encode())[:32]}.json"

    def _read(self, key: str) -> NetworkCost | None:
        try:
            found = json.loads(read_file(self._place(key)))
            if found["format"] != FORMAT:
                return None
            return NetworkCost(
                int(found["params"]),
                int(found["feature_dim"]),
                int(found["size_px"]),
                int(found["convolutions"]),
                {size: int(count) for size, count in found["flops"].items()},
                {place: int(count) for place, count in found.get("steps", {}).items()},
                {device: Rate(**rate) for device, rate in found["rates"].items()},
            )
        except Exception:  # noqa: BLE001  missing or damaged files raise anything: counted again
            return None

    def _write(self, key: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._place(key), json.dumps(asdict(self._costs[key])))
        except OSError:  # a cache that cannot be written costs time only
            pass


def rate_key(device: str, dtype: str) -> str:
    """What a speed depends on beside the network."""
    return f"{environment.device_name(device)}, {dtype}, {environment.cores()} cores"
