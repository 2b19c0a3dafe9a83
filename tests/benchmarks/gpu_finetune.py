"""Fine-tuning on a GPU: `python tests/benchmarks/gpu_finetune.py [--out reports/gpu/NAME.json]`, under nine minutes.

Correctness first, and nothing else if it fails: steps of a ViT, a BiT and an EfficientNet in pieces and in bfloat16 against the
same in float32 in one piece. Then, at a global batch of 512, images a second, share
of the device's bfloat16 peak (MFU, training counted as three forward passes), micro-batch and peak memory, plain and compiled;
and from those rates the GPU-hours of VTAB-1k and of Table 2's column. Prints tables and writes JSON with date and device.
`--device cpu --small` tries the script itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.gpu_frozen import PEAKS, backbone_of
from vitbench.compute.environment import settle
from vitbench.compute.flops import forward_flops
from vitbench.engine.components import load_all
from vitbench.protocols.finetune.trainer import Trainer
from vitbench.protocols.recipes import Recipe

CASES = (
    ("vit_base_patch16_224", 224), ("vit_base_patch16_224", 384), ("vit_large_patch16_224", 224),
    ("vit_large_patch16_224", 384), ("resnetv2_50x1_bit", 480), ("resnetv2_101x3_bit", 480), ("tf_efficientnet_b5", 456),
)  # fmt: skip
# Largest difference of a loss over ten steps: float32 sums in another order; bfloat16 has 8 bits, and losses are of size 5.
TOLERANCE = {"pieces": 1e-3, "bfloat16": 0.15}
CHECKED = ("vit_tiny_patch16_224", "resnetv2_50x1_bit", "efficientnet_b0")
TARGETS = {("vit_base_patch16_224", 384): 0.50, ("vit_large_patch16_224", 384): 0.55}
BATCH = 512
TIMED = 3  # steps, after two that warm up
BUDGET_S = 540
# Steps of the ViT paper's recipe: VTAB's 19 tasks; Table 2's column: four rates and the last run on ImageNet (at 512 px: 1.9
# times the work of 384), CIFAR twice, Pets and Flowers, and VTAB.
VTAB_STEPS = 19 * 2500
TABLE_2_STEPS = 5 * 20_000 * 1.9 + 2 * 5 * 10_000 + 2 * 5 * 500 + VTAB_STEPS


def batch(size_px: int, count: int, device: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random normalised images, on the device, and labels."""
    generator = torch.Generator(device).manual_seed(seed)
    images = torch.randn(count, 3, size_px, size_px, device=device, generator=generator)
    return images, torch.randint(0, 100, (count,), device=device, generator=generator)


def correctness(model: str, device: str, small: bool) -> dict[str, float]:
    """Ten steps of a model: losses in bfloat16 and in pieces against float32 in one piece.

    Pieces are what BatchNorm sees, so a network with it is looked at in one piece only.
    """
    size_px, count = (32, 8) if small else (224, 64)
    made = [batch(size_px, count, device, i) for i in range(4)] * 3
    recipe = Recipe(10, 5, 0.01, count)
    losses = {}
    for name, dtype, pieces in (
        ("float32", "float32", count),
        ("pieces", "float32", count // 4),
        ("bfloat16", "bfloat16", count),
    ):
        trainer = Trainer(backbone_of(model, size_px, device).train(), 100, recipe, dtype=dtype)
        if pieces < count and trainer.has_batch_norm:
            continue
        trainer.micro_batch = pieces
        for images, labels in made[: recipe.steps]:
            trainer.step(images, labels)
        losses[name] = np.array(trainer.read()[0])
    whole = losses.pop("float32")
    return {name: float(np.abs(found - whole).max()) for name, found in losses.items()}


def is_correct(report: dict[str, Any], device: str, small: bool) -> bool:
    """Whether every difference is within its tolerance; they are printed and kept."""
    held = True
    for model in CHECKED[:1] if small else CHECKED:
        found = report["correctness"][model] = correctness(model, device, small)
        for name, worst in found.items():
            held &= worst <= TOLERANCE[name]
            print(f"{model}, {name}: losses off by {worst:.2g} (at most {TOLERANCE[name]:g})", flush=True)
    return held


def rate(model: str, size_px: int, device: str, count: int, *, compiled: bool) -> dict[str, Any]:
    """Steps of one model: images a second, FLOP/s and memory."""
    backbone = backbone_of(model, size_px, device)
    flops = 3 * (forward_flops(backbone, size_px) or 0)
    trainer = Trainer(backbone.train(), 100, Recipe(1000, 0, 0.01, count), dtype="bfloat16")
    images, labels = batch(size_px, count, device, 0)
    trainer.step(images, labels)
    if compiled:
        trainer.model = torch.compile(trainer.model)  # type: ignore[assignment]
    trainer.step(images, labels)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    for _ in range(TIMED):
        trainer.step(images, labels)
    if on_gpu:
        torch.cuda.synchronize()
    taken = (time.perf_counter() - begun) / TIMED
    return {
        "model": model, "size_px": size_px, "batch": count, "micro_batch": trainer.micro_batch, "compiled": compiled,
        "images_per_s": count / taken, "tflops": flops * count / taken / 1e12, "step_s": taken,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
    }  # fmt: skip


def shown(row: dict[str, Any], peak: float | None) -> str:
    """A row as printed; the share of the peak is added to it."""
    row["mfu"] = row["tflops"] * 1e12 / peak if peak else None
    target = TARGETS.get((row["model"], row["size_px"]))
    met = "met" if target and row["mfu"] and row["mfu"] >= target else "not met"
    judged = f" (target {target:.2f}: {met})" if target else ""
    share = "" if peak is None else f"  MFU {row['mfu']:.2f}{judged}"
    kind = "compiled" if row["compiled"] else "plain"
    return (
        f"{row['model']:22} {row['size_px']} px  {kind:8} {row['images_per_s']:7.0f}/s{share}  "
        f"in pieces of {row['micro_batch']}, {row['peak_gb']:.1f} GiB"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("gpu_finetune.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    begun = time.monotonic()
    load_all()
    settle(None)
    kind = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    peak = next((value for name, value in PEAKS.items() if name in kind), None)
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "device": kind, "torch": torch.__version__,
        "correctness": {}, "rates": [],
    }  # fmt: skip
    if not is_correct(report, options.device, options.small):
        sys.exit("the steps are not those of float32: nothing is measured of what is wrong")
    cases = (("vit_tiny_patch16_224", 32),) if options.small else CASES
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for compiled in (False, True):
        for model, size_px in cases:
            costly = max((row["taken_s"] for row in report["rates"]), default=60.0)
            if time.monotonic() - begun + 1.5 * costly > BUDGET_S:
                print(f"{model} at {size_px}, {'compiled' if compiled else 'plain'}: no time left")
                continue
            started = time.monotonic()
            try:
                row = rate(model, size_px, options.device, 8 if options.small else BATCH, compiled=compiled)
            except Exception as error:  # noqa: BLE001  one model that fails must not cost the others their figures
                print(f"{model} at {size_px}: {type(error).__name__}: {error}")
                continue
            row["taken_s"] = time.monotonic() - started
            report["rates"].append(row)
            print(shown(row, peak), flush=True)
            options.out.write_text(json.dumps(report, indent=1) + "\n")
            if options.device == "cuda":
                torch.cuda.empty_cache()
    report["gpu_hours"] = {}
    fastest = {
        (row["model"], row["size_px"]): row for row in sorted(report["rates"], key=lambda r: -r["step_s"])
    }
    for row in fastest.values():
        if row["size_px"] == 384:
            hours = {
                "vtab": VTAB_STEPS * row["step_s"] / 3600,
                "table_2": TABLE_2_STEPS * row["step_s"] / 3600,
            }
            report["gpu_hours"][row["model"]] = hours
            print(
                f"{row['model']}: VTAB-1k {hours['vtab']:.1f} GPU-hours a seed, Table 2's column {hours['table_2']:.0f}"
            )
    report["seconds"] = time.monotonic() - begun
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
