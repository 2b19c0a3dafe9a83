"""Frozen features on a GPU: `python tests/benchmarks/gpu_frozen.py [--out reports/gpu/NAME.json]`, under eight minutes.

Correctness first, and nothing else if it fails: features against the CPU's in float32, probes against float64 on the CPU. Then
extraction as jobs do it from JPEGs, with the cache written, and from the cache, as shares of the bare forward pass; the probes'
solvers at N = 50,000; and the forward pass in bfloat16, images a second and share of the device's peak (MFU; above 1 is
refused), of transformers also compiled. Prints tables and writes JSON with date and device. It ends within its budget, with the
figures it has; with none, it has failed.
`--device cpu --small` tries the script itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.on_gpu import (
    backbone_of,
    correct_features,
    correct_probes,
    end_after,
    is_correct,
    peak_of,
    refuse_impossible,
)
from tests.benchmarks.photographs import Jpegs
from tests.benchmarks.probes import features as made_up
from vitbench.api import Split
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.environment import settle
from vitbench.compute.flops import forward_flops
from vitbench.compute.meter import Meter
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.preprocess import normalise, preset
from vitbench.engine.components import load_all
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader
from vitbench.engine.forward_pass import ForwardPass, Verdicts
from vitbench.protocols import knn, logistic_probe, ridge_probe

MODELS = (
    "vit_base_patch16_224", "vit_large_patch16_224", "resnetv2_50x1_bit", "resnetv2_152x2_bit", "efficientnet_b0",
    "tf_efficientnet_b7",
)  # fmt: skip
SIZES_PX = (224, 384)
PIPELINES = (("vit_base_patch16_224", 224, 16384), ("vit_large_patch16_224", 384, 4096))
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


def extraction(model: str, size_px: int, device: str, folder: Path) -> dict[str, Any]:
    """uint8 pixels on the device to features: rate, share of peak, share of the bare forward, bfloat16's error."""
    backbone = backbone_of(model, size_px, device)
    forward = ForwardPass(backbone, device, "bfloat16")
    size = BatchSize(device, size_px, {"model": model}, folder)
    count = size.choose(forward) if device == "cuda" else 4
    size.size = count
    pixels = torch.randint(0, 256, (count, 3, size_px, size_px), dtype=torch.uint8, device=device)
    spec = backbone.input

    def made_ready() -> torch.Tensor:
        return normalise(pixels, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)

    ready = made_ready()
    few = ready[:4]
    with torch.no_grad():
        exact = copy.deepcopy(backbone).cpu().features(few.cpu()).double()
    error = float((forward(few).double().cpu() - exact).norm() / exact.norm())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    bare_s = clocked(lambda: forward(ready), device)
    whole_s = clocked(lambda: size.run(forward, made_ready()), device)
    flops = forward_flops(backbone, size_px) or 0
    return {
        "model": model, "size_px": size_px, "batch": count, "images_per_s": count / whole_s,
        "of_bare": bare_s / whole_s, "tflops": flops * count / whole_s / 1e12, "bf16_error": error,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0,
        **(compiled(forward, size, ready, bare_s) if model.startswith("vit") and device == "cuda" else {}),
    }  # fmt: skip


def compiled(forward: ForwardPass, size: BatchSize, ready: torch.Tensor, bare_s: float) -> dict[str, Any]:
    """The compiled pass of a row's network: its time as a share of the plain one's, and what compiling took."""
    torch._dynamo.reset()  # of the row before: shapes are static
    begun = time.perf_counter()
    found, note = forward.compiled(size, Verdicts())
    compile_s = time.perf_counter() - begun
    taken = clocked(lambda: found(ready), forward.device) if found else None
    return {"compiled": note, "compile_s": compile_s, "compiled_of_plain_time": taken and taken / bare_s}


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


def pipeline(model: str, size_px: int, device: str, count: int) -> dict[str, Any]:
    """From JPEGs and from cached images to features, as jobs do it: images a second, also as a share of the bare pass."""
    backbone = backbone_of(model, size_px, device)
    source: Any = Jpegs(count)
    split = Split(source, np.arange(count), np.zeros(count, dtype=np.int64))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def whole(store: DecodedCache | None, part: Split = split) -> float:
            reader = FeatureReader(
                backbone, preset("fewshot", size_px), device, "bfloat16", FeatureCache(place), {"model": model}, (part,),
                lambda _done, _total: None, Meter(device), decoded=store,
            )  # fmt: skip
            begun = time.perf_counter()
            reader.extract(backbone, part)
            return time.perf_counter() - begun

        forward = ForwardPass(backbone, device, "bfloat16")
        # As FeatureReader asks for it, so that it is measured here.
        size = BatchSize(device, size_px, {"model": model, "dtype": "bfloat16"}, place / "batch")
        largest = size.choose(forward) if device == "cuda" else 8
        whole(None, split.take(np.arange(min(2 * largest, count))))  # pins memory, loads kernels
        ready = torch.randn(largest, 3, size_px, size_px, device=device)
        ready = ready.contiguous(memory_format=torch.channels_last)
        bare_s = clocked(lambda: forward(ready), device) / largest * count
        store = DecodedCache(place / "decoded")
        found = {
            "from_jpeg": whole(None), "from_jpeg_and_write_cache": whole(store), "from_cache": whole(store),
        }  # fmt: skip
    return {
        "model": model, "size_px": size_px, "batch": largest, "images": count, "bare_images_per_s": count / bare_s,
        **{f"{name}_images_per_s": count / taken for name, taken in found.items()},
        **{f"{name}_of_bare": bare_s / taken for name, taken in found.items()},
    }  # fmt: skip


def shown(row: dict[str, Any]) -> str:
    """A row as printed."""
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )


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
    report: dict[str, Any] = {"solvers": [], "extraction": [], "pipeline": []}
    end_after(options.budget_s, lambda: bool(report["pipeline"]))
    load_all()
    settle(None)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    peak, small, device = peak_of(name), options.small, options.device
    report |= {"date": datetime.date.today().isoformat(), "device": name, "torch": torch.__version__}
    report |= {"small": small, "correctness": {}}
    for compared in (correct_features, correct_probes):
        found = compared(device)
        report["correctness"] |= found
        if not is_correct(found):
            sys.exit("results are not the CPU's: nothing is measured of what is wrong")
    options.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(part: str, row: dict[str, Any]) -> None:
        report[part].append(row)
        report["seconds"] = time.monotonic() - begun
        options.out.write_text(json.dumps(report, indent=1) + "\n")
        print(shown(row), flush=True)

    for model, px, count in (("vit_tiny_patch16_224", 32, 64),) if small else PIPELINES:
        keep("pipeline", pipeline(model, px, device, count))
    if options.only_pipelines:
        return
    solved = (500, 20, (64,)) if small else (50_000, 1000, (1024, 8192))
    for row in solvers(device, *solved):
        keep("solvers", row)
    cases = ((model, px) for model in MODELS for px in SIZES_PX)
    for model, px in [("vit_tiny_patch16_224", 32)] if small else cases:
        if time.monotonic() - begun > options.budget_s - 40:
            print(f"{model} at {px}: no time left")
            continue
        row = extraction(model, px, device, options.out.parent / "batch")
        row["mfu"] = row["tflops"] * 1e12 / peak if peak else None
        refuse_impossible(row)
        keep("extraction", row)


if __name__ == "__main__":
    main()
