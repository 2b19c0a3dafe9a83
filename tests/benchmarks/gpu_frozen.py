"""Frozen features on a GPU: `python tests/benchmarks/gpu_frozen.py [--out reports/gpu/NAME.json]`, under eight minutes.

Correctness first: bfloat16 features and float32 probes against float64 on the CPU. Then extraction in bfloat16, images a second
and share of the device's peak (MFU), and the probes' solvers at N = 50,000. Prints tables and writes JSON with date and device.
`--device cpu --small` tries the script itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.probes import features as made_up
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.flops import forward_flops
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import seeded
from vitbench.data.preprocess import normalise
from vitbench.engine.components import load_all
from vitbench.protocols import knn, logistic_probe, ridge_probe

MODELS = (
    "vit_base_patch16_224", "vit_large_patch16_224", "resnetv2_50x1_bit", "resnetv2_152x2_bit", "efficientnet_b0",
    "tf_efficientnet_b7",
)  # fmt: skip
SIZES_PX = (224, 384)
# Dense bfloat16 peak, FLOP/s, of the SXM parts (vitbench/compute/hardware.yaml).
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
BUDGET_S = 480


def clocked(run: Callable[[], Any], device: str, least_s: float = 1.0) -> float:
    """Median seconds of a call, over enough calls, after one that warms up."""
    run()
    times: list[float] = []
    while sum(times) < least_s or len(times) < 3:
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
        if len(times) == 1 and times[0] > 20:
            break
    return float(np.median(times))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def backbone_of(model: str, size_px: int, device: str) -> BuiltBackbone:
    """A backbone with initial weights."""
    with seeded(0, "construction"):
        entry, module = BACKBONES.make(f"timm:{model}", {"pretrained": False})
    built = BuiltBackbone(module, model, entry.labels)
    if built.input.size_px != size_px:
        built = built.at_resolution(size_px)
    return built.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def extraction(model: str, size_px: int, device: str, folder: Path) -> dict[str, Any]:
    """uint8 pixels on the device to features: rate, share of peak, share of the bare forward, bfloat16's error."""
    backbone = backbone_of(model, size_px, device)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            return backbone.features(images).float()

    size = BatchSize(device, size_px, {"model": model}, folder)
    count = size.choose(forward) if device == "cuda" else 4
    pixels = torch.randint(0, 256, (count, 3, size_px, size_px), dtype=torch.uint8, device=device)
    spec = backbone.input

    def whole() -> torch.Tensor:
        ready = normalise(pixels, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
        return size.run(forward, ready)

    ready = normalise(pixels, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
    few = ready[:4]
    with torch.no_grad():
        exact = backbone.features(few).double()
    error = float((forward(few).double() - exact).norm() / exact.norm())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    bare_s, whole_s = clocked(lambda: forward(ready), device), clocked(whole, device)
    flops = forward_flops(backbone, size_px) or 0
    return {
        "model": model, "size_px": size_px, "batch": count, "images_per_s": count / whole_s,
        "of_bare": bare_s / whole_s, "tflops": flops * count / whole_s / 1e12, "bf16_error": error,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0,
    }  # fmt: skip


def correctness(device: str) -> dict[str, float]:
    """Probes on the device against float64 on the CPU."""
    x, y = made_up(2000, 256, 50)
    test, truth = made_up(5000, 256, 50, 1)
    here = [torch.from_numpy(a) for a in (x, y, test, truth)]
    there = [a.to(device) for a in here]
    exact, ours = (ridge_probe.fit(a[0], a[1], 50, ridge_probe.GRID) for a in (here, there))
    agree = [
        float(
            (exact.scores(here[2], l2).argmax(1) == ours.scores(there[2], l2).argmax(1).cpu()).double().mean()
        )
        for l2 in ridge_probe.GRID
    ]
    top1 = ours.top1(there[2], there[3], ridge_probe.GRID)
    wanted = [
        float((exact.scores(here[2], l2).argmax(1) == here[3]).double().mean()) for l2 in ridge_probe.GRID
    ]
    found = logistic_probe.fit(there[0], there[1], 50, [100.0, 1.0, 0.01])
    reference = logistic_probe.fit(here[0].double(), here[1], 50, [100.0, 1.0, 0.01], 1e-9)
    gap = ((found.objective.cpu() - reference.objective) / reference.objective).max()
    near = (
        knn.neighbours(there[0], there[2], [20])[1].cpu(),
        knn.neighbours(here[0].double(), here[2], [20])[1],
    )
    same = [set(a) == set(b) for a, b in zip(near[0].tolist(), near[1].tolist(), strict=True)]
    return {
        "ridge predictions alike, least over 30 penalties": min(agree),
        "ridge float32 accuracies off float64": max(abs(a - b) for a, b in zip(top1, wanted, strict=True)),
        "logistic true gap": float(gap),
        "kNN sets alike": float(np.mean(same)),
    }


def solvers(device: str, n: int, classes: int, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Seconds of each probe's fit, and of 10,000 queries."""
    rows: list[dict[str, Any]] = []
    for d in widths:
        data = made_up(n, d, classes)
        x, y = (torch.from_numpy(a).to(device) for a in data)
        row: dict[str, Any] = {"n": n, "d": d, "classes": classes}
        row["ridge_fit_s"] = clocked(
            lambda x=x, y=y: ridge_probe.fit(x, y, classes, ridge_probe.GRID), device
        )
        solution = ridge_probe.fit(x, y, classes, ridge_probe.GRID)
        row["ridge_30_penalties_s"] = clocked(
            lambda x=x, y=y, s=solution: s.top1(x[:10000], y[:10000], ridge_probe.GRID), device
        )
        row["knn_10000_queries_s"] = clocked(lambda x=x: knn.neighbours(x, x[:10000], [200]), device)
        if d <= 1024:
            start = time.perf_counter()
            found = logistic_probe.fit(x, y, classes, (1 / np.logspace(-6, 5, 5)).tolist())
            row["logistic_5_penalties_s"] = time.perf_counter() - start
            row["logistic_gap"] = float(found.relative_gap.max())
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu_frozen.json"))
    options = parser.parse_args()
    begun = time.monotonic()
    load_all()
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    peak = next((flops for part, flops in PEAKS.items() if part in name), None)
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "device": name, "torch": torch.__version__, "small": options.small,
    }  # fmt: skip
    report["correctness"] = correctness(options.device)
    for what, value in report["correctness"].items():
        print(f"{what:50} {value:.6g}")
    report["solvers"] = solvers(
        options.device, *((500, 20, (64,)) if options.small else (50_000, 1000, (1024, 8192)))
    )
    for row in report["solvers"]:
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    report["extraction"] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for model in MODELS[4:5] if options.small else MODELS:
        for size_px in SIZES_PX[:1] if options.small else SIZES_PX:
            if time.monotonic() - begun > BUDGET_S - 60:
                print(f"{model} at {size_px}: no time left")
                continue
            row = extraction(model, size_px, options.device, options.out.parent / "batch")
            row["mfu"] = row["tflops"] * 1e12 / peak if peak else None
            report["extraction"].append(row)
            share = "" if peak is None else f"  MFU {row['mfu']:.2f}"
            print(
                f"{model:24} {size_px} px  batch {row['batch']:4}  {row['images_per_s']:8.0f}/s  of bare {row['of_bare']:.2f}"
                f"{share}  bf16 error {row['bf16_error']:.1e}  {row['peak_gb']:.1f} GiB"
            )
            options.out.write_text(json.dumps(report, indent=1) + "\n")
    report["seconds"] = time.monotonic() - begun
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
