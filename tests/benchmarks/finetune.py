"""Fine-tuning's step rate against a bare loop: `python tests/benchmarks/finetune.py [MODEL] [--size-px S] [--batch B]`.

The bare loop is forward, loss, backward, clipping and torch's own SGD on random tensors that are there already; ours draws,
crops, mirrors and normalises images, keeps losses and norms, and can be cut off at any step. Same model, same run,
interleaved rounds, medians. Target: 0.97. Beside other work, processor time is the better measure, with a passive wait.
`--job TIMM_CHECKOUT`: a whole job of VTAB-1k's shape (1,000 images, 200 steps of 500, one evaluation; at 32 px, so that a CPU
gets through it) as a process of its own against timm's train.py; target 1.5.
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
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.loader import photographs
from vitbench.api import ImageSource, Split
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.environment import settle
from vitbench.core.registry import BACKBONES
from vitbench.data.preprocess import normalise
from vitbench.engine.components import load_all
from vitbench.protocols.finetune import train
from vitbench.protocols.finetune.batches import TrainingImages
from vitbench.protocols.recipes import Recipe

CLASSES = 10
WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Made(ImageSource):
    """Random images of 256 x 256 px."""

    fingerprint = "made"

    def __init__(self, count: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: list[int], *, fast_dct: bool = False) -> list[np.ndarray]:
        return [self.pixels[i] for i in indices]

    def name(self, index: int) -> str:
        return str(index)


def built(model: str, size_px: int) -> BuiltBackbone:
    """A new network with the same weights every time."""
    torch.manual_seed(0)
    entry, module = BACKBONES.make(f"timm:{model}", {"pretrained": False, "size_px": size_px})
    return BuiltBackbone(module, model, entry.labels).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


Taken = tuple[float, float]  # seconds on the clock, and of processor time of all threads


def now() -> Taken:
    """The clocks."""
    return time.perf_counter(), time.process_time()


def since(begun: Taken) -> Taken:
    """What has passed on both."""
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def bare(model: str, size_px: int, batch: int, steps: int) -> Taken:
    """What so many plain steps take."""
    backbone = built(model, size_px).train()
    head = torch.nn.Linear(backbone.feature_dim, CLASSES)
    weights = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(weights, lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(batch, 3, size_px, size_px).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(head(backbone.features(images)), labels).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

    step()
    begun = now()
    for _ in range(steps):
        step()
    return since(begun)


def ours(model: str, size_px: int, batch: int, steps: int) -> Taken:
    """What the same number of ours take, images included."""
    source = Made(200)
    split = Split(source, np.arange(200), np.arange(200) % CLASSES)
    data = SimpleNamespace(
        device="cpu", seed=0, flip=True, crop=True, normalise=lambda x: normalise(x, (0.5,) * 3, (0.5,) * 3)
    )
    recipe = Recipe(steps + 1, 0, 0.01, batch, crop="random", flip=True, resize_px=round(size_px * 7 / 6))
    shown = TrainingImages(data, [split], recipe, size_px, CLASSES)
    begun: list[Taken] = []

    def timed(first: int):
        for i, made in enumerate(islice(shown.batches(first), steps + 1)):
            if i == 1:
                begun.append(now())
            yield made

    train(built(model, size_px), timed, CLASSES, recipe)
    return since(begun[0])


def job(checkout: Path, model: str, size_px: int, batch: int, steps: int) -> None:
    """A whole job against timm's train.py: 1,000 images, about so many steps, one evaluation of 1,000 others.

    train.py counts in epochs of whole batches, and is told to validate after the last alone; VTAB-1k has two steps an epoch.
    """
    epochs = max(round(steps / (1000 // batch)), 1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for split, count in (("train", 1000), ("validation", 1000)):
            for i, data in enumerate(photographs(count)):
                folder = root / "data" / split / f"c{i % CLASSES}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{i}.jpg").write_bytes(data)
        (root / "data" / "test").symlink_to(root / "data" / "validation")
        suite = {
            "name": "job", "preprocess": "squash", "budgets": ["full"],
            "backbones": [{"name": f"timm:{model}", "pretrained": False, "size_px": size_px}],
            "tasks": [{"name": "p", "source": "folder", "path": str(root / "data"), "val_share": 0.01}],
            "protocols": [
                {
                    "name": "finetune", "recipe": "own", "steps": 1000 // batch * epochs, "batch_size": batch,
                    "crop": "inception", "flip": True,
                }
            ],
        }  # fmt: skip
        (root / "job.yaml").write_text(yaml.safe_dump(suite))
        vitbench = [Path(sys.executable).with_name("vitbench"), "run", "job.yaml", "--out", "run"]
        how = (
            f"--model {model} --img-size {size_px} -b {batch} --opt sgd --lr 0.01 --clip-grad 1.0 --epochs {epochs} "
            f"--num-classes {CLASSES} -j 2 --device cpu --warmup-epochs 0 --val-interval {epochs}"
        )
        if model.startswith("vit"):
            how += f" --model-kwargs img_size={size_px}"
        folders = ["--data-dir", root / "data", "--output", root / "out"]
        timm = [sys.executable, checkout / "train.py", *folders, *how.split()]
        (ours_s, ours_gb), (timm_s, timm_gb) = (whole(command, root) for command in (vitbench, timm))
        record = json.loads(next((root / "run" / "records").glob("*.json")).read_text())
        print(
            f"{model} at {size_px} px, {epochs} epochs of {1000 // batch} steps of {batch}: {ours_s:.0f} s, "
            f"train.py {timm_s:.0f} s: {timm_s / ours_s:.2f} times (target 1.5); {ours_gb:.1f} GiB against {timm_gb:.1f} "
            f"and its loaders' processes; top-1 {record['metrics']['top1']['value']:.3f} of images that hold nothing"
        )


def whole(command: list[object], root: Path) -> tuple[float, float]:
    """Seconds and peak memory in GiB of a command."""
    begun = time.perf_counter()
    with (root / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            list(map(str, command)), cwd=root, stdout=said, stderr=said, env={**os.environ, "VITBENCH_CACHE": f"{root}/cache"}
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit((root / "said.txt").read_text(errors="replace")[-2000:])
    return time.perf_counter() - begun, used.ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="vit_tiny_patch16_224")
    parser.add_argument("--size-px", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job", type=Path, metavar="TIMM_CHECKOUT")
    options = parser.parse_args()
    load_all()
    usual = (32, 500, 200) if options.job else (224, 32, 8)
    for name, value in zip(("size_px", "batch", "steps"), usual, strict=True):
        setattr(options, name, getattr(options, name) or value)
    if options.job:
        job(options.job, options.model, options.size_px, options.batch, options.steps)
        return
    settle(None)
    how = (options.model, options.size_px, options.batch, options.steps)
    rounds = [(bare(*how), ours(*how)) for _ in range(options.rounds)]
    on_clock, of_processor = (statistics.median(plain[i] / own[i] for plain, own in rounds) for i in range(2))
    rate = options.batch * options.steps / statistics.median(own[0] for _, own in rounds)
    wait = next((f"{name}={os.environ[name]}" for name in WAITS if name in os.environ), "OpenMP's own")
    what = f"{options.model} at {options.size_px} px, batch {options.batch}"
    print(
        f"{what}: {rate:.1f} images/s, {on_clock:.3f} of bare (target 0.97), {of_processor:.3f} in processor time; "
        f"wait of threads: {wait}"
    )


if __name__ == "__main__":
    main()
