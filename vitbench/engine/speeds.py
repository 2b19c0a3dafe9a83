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
    if card is not None:
        return CompiledSpeeds(CardSpeeds(card, networks), networks)
    found = _Survey(networks, jobs, work, device).speeds(measure=measure)
    return CompiledSpeeds(found, networks) if device.startswith("cuda") else found


@dataclass(frozen=True)
class _Survey:
    """What is known of the speed of a run's networks on a device that is here, as they are (not compiled)."""

    networks: Networks
    jobs: Mapping[str, Job]
    work: Sequence[Work]
    device: str

    def speeds(self, *, measure: bool) -> Speeds:
        """Measured ones if asked for, or known, or nobody has counted a network; else what can be said at once."""
        costliest = self._costliest()
        if not costliest:
            return FixedSpeeds("", {})
        if measure or self._any_is_known(costliest) or not self._all_are_counted():
            return self._measured(costliest)
        return self._at_once() or self._measured(costliest)

    def _costliest(self) -> list[str]:
        total: dict[str, int] = {}
        for each in self.work:
            total[each.backbone] = total.get(each.backbone, 0) + each.flops
        return sorted((key for key in total if total[key]), key=lambda key: total[key], reverse=True)[:TRIED]

    def _any_is_known(self, backbones: Sequence[str]) -> bool:
        return any(self.networks.measured(key, self.jobs[key], self.device) for key in backbones)

    def _all_are_counted(self) -> bool:
        return all(self.networks.counts(self.jobs[each.backbone], each.size_px) for each in self.work)

    def _at_once(self) -> Speeds | None:
        """A GPU's roofline, or what is assumed of a CPU; None for a GPU that no roofline is known of."""
        if not self.device.startswith("cuda"):
            return _assumed()
        card = card_of(self.networks.device_name(self.device))
        return CardSpeeds(card, self.networks) if card else None

    def _measured(self, backbones: Sequence[str]) -> Speeds:
        """FLOPs per second of every backbone; those not measured, or that fail, get the median of the others."""
        measured: dict[str, float] = {}
        for key in backbones:
            # A plugin's code may raise anything, and a GPU may be too small for one image; the run reports it.
            with contextlib.suppress(Exception):
                seconds = CALIBRATION_S / len(backbones)
                measured[key] = self.networks.rate(key, self.jobs[key], self.device, seconds)
        middle = sorted(measured.values())[len(measured) // 2] if measured else None
        when = self.networks.oldest_rate()
        return FixedSpeeds(f"speed measured {when}" if when else "", measured, middle)


def _assumed() -> Speeds:
    """A CPU's speed, from a product of a tenth of a second."""
    a = np.ones((PRODUCT_WIDTH, PRODUCT_WIDTH), np.float32)
    a @ a  # the first starts the threads
    products, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < PRODUCT_S:
        a @ a
        products += 1
    rate = 2 * PRODUCT_WIDTH**3 * products / taken * OF_PRODUCT
    said = f"speed assumed as half of a matrix product's, {rate / 1e9:.0f} GFLOP/s; --measure measures the networks"
    return FixedSpeeds(said, {}, rate)
