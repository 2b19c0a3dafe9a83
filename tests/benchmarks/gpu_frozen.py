"""Frozen features on a GPU: `python tests/benchmarks/gpu_frozen.py [--out reports/gpu/NAME.json]`, under eight minutes.

Correctness first, and nothing else if it fails: features against the CPU's in float32, probes against float64 on the CPU. Then
extraction in bfloat16, images a second and share of the device's peak (MFU; above 1 is refused), extraction from JPEGs through
the loader as a share of the bare forward pass, and the probes' solvers at N = 50,000. Prints tables and writes JSON with date
and device. It ends within its budget, with the figures it has.
`--device cpu --small` tries the script itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.photographs import photographs
from tests.benchmarks.probes import features as made_up
from vitbench.api import Split
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.environment import settle
from vitbench.compute.flops import forward_flops
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import seeded
from vitbench.data.decode import decode
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import batches
from vitbench.data.preprocess import normalise, preset
from vitbench.engine.components import load_all
from vitbench.protocols import knn, logistic_probe, ridge_probe

MODELS = (
    "vit_base_patch16_224", "vit_large_patch16_224", "resnetv2_50x1_bit", "resnetv2_152x2_bit", "efficientnet_b0",
    "tf_efficientnet_b7",
)  # fmt: skip
SIZES_PX = (224, 384)
PIPELINES = (("vit_base_patch16_224", 224, 16384), ("vit_large_patch16_224", 384, 4096))
# Dense bfloat16 peak, FLOP/s, of the SXM parts (vitbench/compute/hardware.yaml).
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
BUDGET_S = 480


# What must hold before anything is timed.
LEAST = {"ridge predictions alike, least over 30 penalties": 0.999, "kNN sets alike": 0.999}
MOST = {
    "ridge float32 accuracies off float64": 0.001, "logistic true gap": 1e-5, "float32 features off the CPU's": 1e-3,
    "bfloat16 features off the CPU's": 0.05,
}  # fmt: skip


def end_after(budget_s: float) -> None:
    """Exit with the figures written so far when the time is over, even while something compiles."""

    def end(*_: object) -> None:
        print(f"the budget of {budget_s:g} s is over: what is missing was not measured", flush=True)
        os._exit(0)

    timer = threading.Timer(budget_s, end)
    timer.daemon = True
    timer.start()


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
        exact = copy.deepcopy(backbone).cpu().features(few.cpu()).double()
    error = float((forward(few).double().cpu() - exact).norm() / exact.norm())
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


class Jpegs:
    """Photograph-like JPEGs in memory, decoded as a folder's files are."""

    def __init__(self, count: int) -> None:
        self.encoded = photographs(min(count, 96))
        self.count, self.fingerprint = count, f"made up, {count}"

    def __len__(self) -> int:
        return self.count

    def read(self, positions: list[int], *, fast_dct: bool = False) -> list[np.ndarray]:
        """Decoded images (H, W, 3)."""
        chosen = (self.encoded[position % len(self.encoded)] for position in positions)
        return [decode(data, exif_rotate=False, fast_dct=fast_dct) for data in chosen]


def pipeline(model: str, size_px: int, device: str, count: int, folder: Path) -> dict[str, Any]:
    """From JPEGs and from cached images to features, through the loader: images a second, also as a share of the bare pass."""
    backbone = backbone_of(model, size_px, device)
    spec, how = backbone.input, preset("fewshot", size_px)
    source: Any = Jpegs(count)
    split = Split(source, np.arange(count), np.zeros(count, dtype=np.int64))

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            return backbone.features(images).float()

    size = BatchSize(device, size_px, {"model": model}, folder / "pipeline")
    largest = size.choose(forward) if device == "cuda" else 8

    def whole(store: DecodedCache | None) -> float:
        begun = time.perf_counter()
        for batch in batches(split, how, device, largest, store):
            ready = normalise(batch, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
            size.run(forward, ready).cpu()
        return time.perf_counter() - begun

    ready = torch.randn(largest, 3, size_px, size_px, device=device).contiguous(
        memory_format=torch.channels_last
    )
    bare_s = clocked(lambda: forward(ready), device) / largest * count
    with tempfile.TemporaryDirectory() as place:
        store = DecodedCache(Path(place))
        found = {
            "from_jpeg": whole(None),
            "from_jpeg_and_write_cache": whole(store),
            "from_cache": whole(store),
        }
    return {
        "model": model, "size_px": size_px, "batch": largest, "images": count, "bare_images_per_s": count / bare_s,
        **{f"{name}_images_per_s": count / taken for name, taken in found.items()},
        **{f"{name}_of_bare": bare_s / taken for name, taken in found.items()},
    }  # fmt: skip


def is_correct(found: dict[str, float]) -> bool:
    """Print what was compared, and whether all of it holds."""
    held = True
    for what, value in found.items():
        ok = value >= LEAST[what] if what in LEAST else value <= MOST[what]
        held &= ok
        print(f"{what:50} {value:.6g}{'' if ok else '  NOT HELD'}", flush=True)
    return held


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu_frozen.json"))
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    parser.add_argument("--only-pipelines", action="store_true", help="after the check of correctness")
    options = parser.parse_args()
    begun = time.monotonic()
    end_after(options.budget_s)
    load_all()
    settle(None)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    peak = next((flops for part, flops in PEAKS.items() if part in name), None)
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "device": name, "torch": torch.__version__, "small": options.small,
    }  # fmt: skip
    report["correctness"] = correctness(options.device)
    if not is_correct(report["correctness"]):
        sys.exit("results are not the CPU's: nothing is measured of what is wrong")
    solved = (500, 20, (64,)) if options.small else (50_000, 1000, (1024, 8192))
    report["solvers"] = [] if options.only_pipelines else solvers(options.device, *solved)
    for row in report["solvers"]:
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    report["extraction"] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cases = (("vit_tiny_patch16_224", 32, 64),) if options.small else PIPELINES
    report["pipeline"] = [
        pipeline(model, px, options.device, n, options.out.parent) for model, px, n in cases
    ]
    for row in report["pipeline"]:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            )
        )
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    for model in () if options.only_pipelines else MODELS[4:5] if options.small else MODELS:
        for size_px in SIZES_PX[:1] if options.small else SIZES_PX:
            if time.monotonic() - begun > options.budget_s - 40:
                print(f"{model} at {size_px}: no time left")
                continue
            row = extraction(model, size_px, options.device, options.out.parent / "batch")
            row["mfu"] = row["tflops"] * 1e12 / peak if peak else None
            if row["mfu"] and row["mfu"] > 1:
                sys.exit(
                    f"{model}: MFU {row['mfu']:.2f}: no device computes faster than its peak, so this measured nothing"
                )
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
