"""How fast jobs will go: as a card's roofline says, as was measured within a day, or as is assumed; which of these is said.

Measuring takes torch and seconds, so where all networks are shipped counted it is done only if it is asked for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vitbench.compute.compiling import COMPILE_S, MOST_CONVOLUTIONS, OF_EAGER_TIME
from vitbench.compute.core_days import Device
from vitbench.compute.roofline import BACKWARD, card_of, forward_s, step_s, uncounted_flops_per_s
from vitbench.core.job import Job
from vitbench.core.settings import compile_mode
from vitbench.engine.network_costs import Networks

CALIBRATION_S = 3.0
TRIED = 3  # number of backbones whose speed is measured
# A forward pass of networks on a CPU, of the speed of one large product (docs/protocols.md#roofline).
OF_PRODUCT = 0.5
PRODUCT_WIDTH, PRODUCT_S = 1024, 0.1


@dataclass(frozen=True)
class Work:
    """What a job computes: passes at one image size, and their FLOPs; those of a training step in forward passes, too.

    `long_flops` are those of runs and passes that are long enough to be compiled.
    """

    backbone: str
    size_px: int
    images_forward: int
    images_backward: int
    flops: int
    step_passes: float = 1.0 + BACKWARD
    long_flops: int = 0


class Speeds(Protocol):
    """The seconds of a job's work."""

    @property
    def said(self) -> str:
        """Where they come from."""
        ...

    def seconds(self, job: Job, work: Work) -> float | None:
        """Seconds on one device; None if they are unknown."""
        ...


@dataclass(frozen=True)
class FixedSpeeds:
    """FLOPs per second by backbone, or of all."""

    said: str
    rates: Mapping[str, float]
    of_all: float | None = None

    def seconds(self, job: Job, work: Work) -> float | None:  # noqa: ARG002  as for all speeds
        """FLOPs over speed."""
        rate = self.rates.get(work.backbone, self.of_all)
        return work.flops / rate if rate else 0.0 if not work.flops else None


@dataclass(frozen=True)
class CardSpeeds:
    """The roofline of a card, which need not be here."""

    card: Device
    networks: Networks

    @property
    def said(self) -> str:
        """That nothing was measured."""
        return f"predicted for {self.card.id} from products and memory traffic, not measured"

    def seconds(self, job: Job, work: Work) -> float | None:
        """The sum over passes; of a network whose traffic is unknown, from FLOPs alone."""
        counts = self.networks.counts(job, work.size_px)
        if counts is None:
            return work.flops / uncounted_flops_per_s(self.card, job.dtype)
        forward = forward_s(counts, self.card, job.dtype)
        step = step_s(counts, self.card, job.dtype, work.step_passes)
        return work.images_forward * forward + work.images_backward * step


@dataclass(frozen=True)
class CompiledSpeeds:
    """Speeds on a GPU where networks are compiled if that pays, once for all jobs."""

    as_it_is: Speeds
    networks: Networks
    graphs: set[tuple[Any, ...]] = field(default_factory=set)

    @property
    def said(self) -> str:
        """Where the seconds come from, and what was made of them."""
        if not self.graphs:
            return self.as_it_is.said
        return f"{self.as_it_is.said}; compiled networks take {OF_EAGER_TIME} of the time, as steps of ViT-B/16 did on an H200"

    def seconds(self, job: Job, work: Work) -> float | None:
        """Those of the network as it is, less what compiling saves, and what it takes."""
        plain = self.as_it_is.seconds(job, work)
        flops = self._compiled_flops(job, work)
        if plain is None or not flops:
            return plain
        graph = (work.backbone, work.size_px, job.dtype, work.images_backward > 0)
        first = graph not in self.graphs
        self.graphs.add(graph)
        return plain * (1 - (1 - OF_EAGER_TIME) * flops / work.flops) + COMPILE_S * first

    def _compiled_flops(self, job: Job, work: Work) -> int:
        mode = compile_mode()
        if mode != "auto":
            return work.flops if mode == "on" else 0
        convolutions = self.networks.cost(work.backbone, job).convolutions
        return work.long_flops if convolutions <= MOST_CONVOLUTIONS else 0


def choose_speeds(
    networks: Networks,
    jobs: Mapping[str, Job],
    work: Sequence[Work],
    device: str,
    card: Device | None,
    *,
    measure: bool,
) -> Speeds:
    """The best speeds to be had without delay, or measured ones; `jobs` has a job of each backbone."""
    found = _plain_speeds(networks, jobs, work, device, card, measure=measure)
    return CompiledSpeeds(found, networks) if card or device.startswith("cuda") else found


def _plain_speeds(
    networks: Networks,
    jobs: Mapping[str, Job],
    work: Sequence[Work],
    device: str,
    card: Device | None,
    *,
    measure: bool,
) -> Speeds:
    """Those of networks that are not compiled."""
    if card is not None:
        return CardSpeeds(card, networks)
    costliest = _costliest(work)
    if not costliest:
        return FixedSpeeds("", {})
    fresh = {key: rate for key in costliest if (rate := networks.measured(key, jobs[key], device))}
    shipped = all(networks.counts(jobs[each.backbone], each.size_px) for each in work)
    if measure or fresh or not shipped:
        return _measured(networks, jobs, work, device)
    here = card_of(networks.device_name(device)) if device.startswith("cuda") else None
    return (CardSpeeds(here, networks) if here else _assumed(device)) or _measured(
        networks, jobs, work, device
    )


def _costliest(work: Sequence[Work]) -> list[str]:
    total: dict[str, int] = {}
    for each in work:
        total[each.backbone] = total.get(each.backbone, 0) + each.flops
    return sorted((key for key in total if total[key]), key=lambda key: total[key], reverse=True)[:TRIED]


def _measured(networks: Networks, jobs: Mapping[str, Job], work: Sequence[Work], device: str) -> Speeds:
    """FLOPs per second of every backbone; those not measured, or that fail, get the median of the others."""
    costliest = _costliest(work)
    measured: dict[str, float] = {}
    for key in costliest:
        # A plugin's code may raise anything, and a GPU may be too small for one image; the run reports it.
        with contextlib.suppress(Exception):
            measured[key] = networks.rate(key, jobs[key], device, CALIBRATION_S / len(costliest))
    middle = sorted(measured.values())[len(measured) // 2] if measured else None
    when = networks.oldest_rate()
    return FixedSpeeds(f"speed measured {when}" if when else "", measured, middle)


def _assumed(device: str) -> Speeds | None:
    """A CPU's speed, from a product of a tenth of a second; None for a GPU that no roofline is known of."""
    if device != "cpu":
        return None
    a = np.ones((PRODUCT_WIDTH, PRODUCT_WIDTH), np.float32)
    a @ a  # the first starts the threads
    products, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < PRODUCT_S:
        a @ a
        products += 1
    rate = 2 * PRODUCT_WIDTH**3 * products / taken * OF_PRODUCT
    said = f"speed assumed as half of a matrix product's, {rate / 1e9:.0f} GFLOP/s; --measure measures the networks"
    return FixedSpeeds(said, {}, rate)
