"""Whole commands beside timm's, on the same JPEGs: `python tests/benchmarks/whole_process.py TIMM_CHECKOUT [MODEL]...`.

`validate.py` of a checkout of huggingface/pytorch-image-models scores N images; `vitbench run` reads the same images, and
N/8 more to learn from, and answers by its nearest neighbours. Both at float32 on the CPU, two loader threads or processes, each
process' whole time; the ratio is of time per forward pass. Targets: 1.2 for ViTs, 2 for convolutional networks.

`--own-head`: both score the classifier of one checkpoint on the same N images; the targets are the same.

`--probes` shows instead what vtab-frozen's three protocols cost beside decoding and forward passes: 1,000 images of 100
classes to learn from, N to score; the target is 0.9 of the time in extraction.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import yaml
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.loader import photographs

MODELS = ("vit_small_patch16_224", "vit_tiny_patch16_224", "resnetv2_50x1_bit", "efficientnet_b0")
CLASSES = 10


def images(root: Path, n: int, n_train: int, classes: int) -> None:
    """Class folders of images, test/ and train/."""
    for split, count in (("test", n), ("train", n_train)):
        for i, data in enumerate(photographs(count)):
            folder = root / split / f"c{i % classes:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.jpg").write_bytes(data)


def vitbench(
    root: Path, model: str, protocols: list[str], weights: Path | None = None
) -> tuple[float, list[dict]]:
    """Seconds of a run from nothing, and its records."""
    loaded = {"checkpoint": str(weights)} if weights else {"pretrained": False}
    suite = {
        "name": "whole",
        "backbones": [{"name": f"timm:{model}", **loaded}],
        "tasks": [{"name": "images", "source": "folder", "path": str(root), "val_share": 0.2}],
        "protocols": protocols,
        "budgets": ["full"],
        "preprocess": "timm_eval" if weights else "squash",
    }
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "whole.yaml").write_text(yaml.safe_dump(suite))
        command = [Path(sys.executable).with_name("vitbench"), "run", "whole.yaml", "--out", "run"]
        begun = time.perf_counter()
        subprocess.run(
            command, cwd=place, env={**os.environ, "VITBENCH_CACHE": f"{place}/cache"}, check=True,
            capture_output=True,
        )  # fmt: skip
        taken = time.perf_counter() - begun
        records = [json.loads(path.read_text()) for path in Path(place).glob("run/records/*.json")]
    return taken, records


def weights_of(root: Path, model: str) -> Path:
    """A checkpoint of the network with initial weights and a classifier of our classes."""
    weights = root / f"{model}.safetensors"
    if not weights.exists():
        save_file(timm.create_model(model, num_classes=CLASSES).state_dict(), weights)
    return weights


def validate(checkout: Path, root: Path, model: str) -> float:
    """Seconds of timm's validate.py; it takes no network without weights, so initial ones lie in a file."""
    weights = weights_of(root, model)
    command = [
        sys.executable, checkout / "validate.py", root, "--split", "test", "--model", model, "-b", "32", "-j", "2",
        "--device", "cpu", "--num-classes", str(CLASSES), "--checkpoint", weights,
    ]  # fmt: skip
    begun = time.perf_counter()
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--own-head", action="store_true")
    parser.add_argument("--probes", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if options.probes:
            images(root, options.n, 1000, 100)
            _, records = vitbench(root, options.models[0], ["ridge_probe", "logistic_probe", "knn"])
            seconds = [record["cost"]["seconds"] for record in records]
            total = sum(sum(each.values()) for each in seconds)
            extraction = sum(each["features"] for each in seconds)
            print(
                f"{options.models[0]}: {extraction:.1f} of {total:.1f} s in extraction, {extraction / total:.3f}"
            )
            return
        images(root, options.n, options.n // 8, CLASSES)
        for model in options.models:
            ratios = []
            for _ in range(options.rounds):
                weights = weights_of(root, model) if options.own_head else None
                ours, records = vitbench(root, model, ["own_head" if weights else "knn"], weights)
                seen = options.n if weights else records[0]["cost"]["images_forward"]
                ratios.append(validate(options.checkout, root, model) / options.n / (ours / seen))
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(
                f"{model}: {statistics.median(ratios):.2f} times as fast as timm's validate.py ({each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
