"""What the scripts for a GPU share: networks, peaks, the end of the budget, and what must hold before anything is timed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import numpy as np
import torch

from tests.benchmarks.probes import features as made_up
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.roofline import card_of
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import seeded
from vitbench.protocols import knn, logistic_probe, ridge_probe

# Dense bfloat16 peak, FLOP/s, of SXM parts whose drivers call them otherwise than vitbench/compute/hardware.yaml does.
PEAKS = {"A100": 312e12}
LEAST = {"ridge predictions alike, least over 30 penalties": 0.999, "kNN sets alike": 0.999}
MOST = {
    "ridge float32 accuracies off float64": 0.001, "logistic true gap": 1e-5, "float32 features off the CPU's": 1e-3,
    "bfloat16 features off the CPU's": 0.05,
}  # fmt: skip


def peak_of(device_name: str) -> float | None:
    """The dense bfloat16 peak of a card, FLOP/s; None if it is not known, and then shares of it are not told."""
    known = card_of(device_name)
    if known is not None:
        return known.peak_tflops * 1e12
    return next((value for part, value in PEAKS.items() if part in device_name), None)


def refuse_impossible(row: dict[str, object]) -> None:
    """Exit if a row's share of the peak (`mfu`) is above 1."""
    mfu = row["mfu"]
    if isinstance(mfu, float) and mfu > 1:
        sys.exit(
            f"{row['model']}: MFU {mfu:.2f}: no device computes faster than its peak, so this measured nothing"
        )


def end_after(budget_s: float, has_figures: Callable[[], bool]) -> None:
    """Exit with the figures written so far when the time is over, even while something compiles; with none, as failed."""

    def end() -> None:
        print(f"the budget of {budget_s:g} s is over: what is missing was not measured", flush=True)
        os._exit(0 if has_figures() else 1)

    timer = threading.Timer(budget_s, end)
    timer.daemon = True
    timer.start()


def backbone_of(model: str, size_px: int, device: str) -> BuiltBackbone:
    """A backbone with initial weights."""
    with seeded(0, "construction"):
        entry, module = BACKBONES.make(f"timm:{model}", {"pretrained": False})
    built = BuiltBackbone(module, model, entry.labels)
    if built.input.size_px != size_px:
        built = built.at_resolution(size_px)
    return built.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def correct_features(device: str) -> dict[str, float]:
    """Features on the device against those of float32 on the CPU."""
    backbone = backbone_of("vit_tiny_patch16_224", 96, "cpu")
    images = torch.randn(16, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = backbone.features(images)
        moved = backbone.to(device)
        single = moved.features(images.to(device)).cpu()
        with torch.autocast(device, torch.bfloat16):
            half = moved.features(images.to(device)).float().cpu()
    return {
        "float32 features off the CPU's": float((single - features).norm() / features.norm()),
        "bfloat16 features off the CPU's": float((half - features).norm() / features.norm()),
    }


def correct_probes(device: str) -> dict[str, float]:
    """Probes on the device against float64 on the CPU."""
    x, y = made_up(2000, 256, 50)
    test, truth = made_up(5000, 256, 50, 1)
    here = [torch.from_numpy(a) for a in (x, y, test, truth)]
    there = [a.to(device) for a in here]
    exact, ours = (ridge_probe.fit(a[0], a[1], 50, ridge_probe.GRID) for a in (here, there))
    predictions = {l2: exact.scores(here[2], l2).argmax(1) for l2 in ridge_probe.GRID}
    own = {l2: ours.scores(there[2], l2).argmax(1).cpu() for l2 in ridge_probe.GRID}
    agree = [float((predictions[l2] == own[l2]).double().mean()) for l2 in ridge_probe.GRID]
    top1 = ours.top1(there[2], there[3], ridge_probe.GRID)
    wanted = [float((predictions[l2] == here[3]).double().mean()) for l2 in ridge_probe.GRID]
    found = logistic_probe.fit(there[0], there[1], 50, [100.0, 1.0, 0.01])
    reference = logistic_probe.fit(here[0].double(), here[1], 50, [100.0, 1.0, 0.01], 1e-9)
    gap = ((found.objective.cpu() - reference.objective) / reference.objective).max()
    near = knn.neighbours(there[0], there[2], [20])[1].cpu()
    nearest = knn.neighbours(here[0].double(), here[2], [20])[1]
    same = [set(a) == set(b) for a, b in zip(near.tolist(), nearest.tolist(), strict=True)]
    return {
        "ridge predictions alike, least over 30 penalties": min(agree),
        "ridge float32 accuracies off float64": max(abs(a - b) for a, b in zip(top1, wanted, strict=True)),
        "logistic true gap": float(gap),
        "kNN sets alike": float(np.mean(same)),
    }


def is_correct(found: dict[str, float]) -> bool:
    """Print what was compared, and whether all of it holds."""
    held = True
    for what, value in found.items():
        ok = value >= LEAST[what] if what in LEAST else value <= MOST[what]
        held &= ok
        print(f"{what:50} {value:.6g}{'' if ok else '  NOT HELD'}", flush=True)
    return held
