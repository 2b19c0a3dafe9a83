"""Pre-train the miniature backbones on images made from seeds: three families, each at four compute budgets.

    python reports/miniatures/pretrain.py --out DIR --device cuda --minutes 5

Images are drawn by all processors, then every family has a process of its own on the device. Each checkpoint is written when
it is done (DIR/mini-FAMILY-BUDGET.safetensors, float16, without the classifier; and .json beside it), so a run that is cut
keeps what is finished; DIR/miniatures.json and the --tar hold all of them. Needs torch, timm, NumPy and safetensors; vitbench
need not be installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import os
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from images import CATEGORIES, HELD_OUT, SEED, SIZE, TOTAL, TRAIN, digest, paint_all
from safetensors.torch import save_file
from training import BATCH, RATE_POWER, RATES, accuracy, flops_per_image, network, train

NETS = Path(__file__).resolve().parents[2] / "vitbench" / "backbones" / "models" / "miniature_nets.py"
FAMILIES = ("vit", "bit", "hybrid")
STEPS = (500, 1700, 6000, 24000)  # the largest is 48 times the smallest
HELD_OUT_INSTANCES = 8
EVALUATED = 4096  # training images on which the final accuracy is taken


def nets() -> ModuleType:
    """The architectures, read from their file: importing vitbench needs all that it depends on."""
    if "miniature_nets" not in sys.modules:
        spec = importlib.util.spec_from_file_location("miniature_nets", NETS)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(NETS)
        module = importlib.util.module_from_spec(spec)
        sys.modules["miniature_nets"] = module
        spec.loader.exec_module(module)
    return sys.modules["miniature_nets"]


def exact_float32(threads: int) -> None:
    """No TF32, so that a CPU can follow: torch's matrix products use none by default, but convolutions do."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(threads)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def save(folder: Path, name: str, model: torch.nn.Module, facts: dict[str, Any]) -> None:
    """A checkpoint without its classifier, then its record, whose presence says that both are whole."""
    weights = {
        key: value.half().cpu().contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith("head.")
    }
    part = folder / f".{name}.part"
    save_file(weights, part, metadata={"name": name})
    part.replace(folder / f"{name}.safetensors")
    facts["parameters"] = sum(value.numel() for value in weights.values())
    facts["sha256"] = hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()
    write(folder / f"{name}.json", json.dumps(facts, indent=1).encode())


@dataclass
class Family:
    """One family on one device, with all images there."""

    name: str
    data: Path
    options: argparse.Namespace

    def __post_init__(self) -> None:
        self.device = self.options.device
        self.pixels, self.held, self.labels, self.held_labels = (
            torch.from_numpy(np.load(self.data / f"{file}.npy")).to(self.device)
            for file in ("train", "held", "train_labels", "held_labels")
        )
        stream = np.random.Generator(np.random.PCG64(SEED))
        some = (stream.random(EVALUATED) * len(self.pixels)).astype(np.int64)
        self.some = torch.from_numpy(some).to(self.device)

    def trained(self, number: int, steps: int, peak: float) -> tuple[torch.nn.Module, dict[str, Any]]:
        """A new network after training, and its record."""
        model = network(self.name, nets().initialise)
        flops = flops_per_image(model)
        facts = train(
            model.to(self.device),
            self.pixels,
            self.labels,
            steps,
            peak,
            number,
            lambda text: say(f"{self.name} {number}: {text}"),
        )
        facts |= {
            "family": self.name, "budget": number,
            "forward_flops_per_image": flops, "pretrain_flops": 3 * flops * steps * BATCH,
            "device": device_name(self.device), "torch": torch.__version__, "train_images": len(self.pixels),
            "train_accuracy": accuracy(model, self.pixels[self.some], self.labels[self.some]),
            "held_out_accuracy": accuracy(model, self.held, self.held_labels),
        }  # fmt: skip
        done = (
            f"{steps} steps at {peak:.1e} in {facts['seconds']} s, held-out {facts['held_out_accuracy']:.3f}"
        )
        say(f"{self.name} {number}: {done}")
        return model, facts

    def run(self, deadline: float) -> None:
        """All budgets, the smallest first, at the peak rate that is best there; what the time is too short for is cut."""
        first, *larger = self.options.steps
        tried = [self.trained(1, first, peak) for peak in self.options.rates]
        model, facts = max(tried, key=lambda one: float(one[1]["held_out_accuracy"]))
        facts["rates_tried"] = {
            f"{one['peak_learning_rate']:g}": one["held_out_accuracy"] for _, one in tried
        }
        save(self.options.out, f"mini-{self.name}-1", model, facts)
        best = float(facts["peak_learning_rate"])
        for number, planned in enumerate(larger, 2):
            rate = facts["images_seen"] / facts["seconds"]
            steps = min(planned, int(0.97 * (deadline - time.time()) * rate / BATCH))
            if steps < planned / 4:
                say(f"{self.name}: no time is left for budget {number}")
                return
            model, facts = self.trained(number, steps, best * (steps / first) ** RATE_POWER)
            facts["planned_steps"] = planned
            save(self.options.out, f"mini-{self.name}-{number}", model, facts)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201  a script's progress


def family_process(name: str, data: Path, options: argparse.Namespace, deadline: float) -> None:
    """What a family's process does."""
    exact_float32(options.threads)
    Family(name, data, options).run(deadline)


def device_name(device: str) -> str:
    """The device in words."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def collect(folder: Path, archive: Path | None) -> int:
    """Join the finished records into miniatures.json, and everything into an archive; how many are finished."""
    found = sorted(folder.glob("mini-*.json"))
    records = {file.stem: json.loads(file.read_text()) for file in found}
    data = {"seed": SEED, "image_px": SIZE, "categories": CATEGORIES, "first_images_sha256": digest()}
    write(folder / "miniatures.json", json.dumps({"data": data, "checkpoints": records}, indent=1).encode())
    if archive:
        part = archive.with_name(f".{archive.name}.part")
        with tarfile.open(part, "w") as tar:
            for file in [folder / "miniatures.json", *(one.with_suffix(".safetensors") for one in found)]:
                tar.add(file, file.name)
        part.replace(archive)
    return len(found)


def draw(folder: Path, instances: int, processes: int) -> None:
    """All images, into files that the families share."""
    for name, count, part in (("train", instances, TRAIN), ("held", HELD_OUT_INSTANCES, HELD_OUT)):
        labels = paint_all(folder / f"{name}.npy", count, part, processes)
        np.save(folder / f"{name}_labels.npy", labels)


def main() -> None:
    """Read the options, draw, train, and collect what is finished as it finishes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and records")
    parser.add_argument("--tar", type=Path, help="one file with all of them")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--minutes", type=float, default=1e6, help="after which nothing more begins, drawing included"
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument(
        "--steps", nargs="+", type=int, default=STEPS, help="of each budget, the smallest first"
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=RATES,
        help="peak learning rates that the smallest budget tries",
    )
    parser.add_argument("--instances", type=int, default=1536, help="images of each category")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that draw")
    parser.add_argument("--threads", type=int, default=1, help="of each family's process")
    options = parser.parse_args()
    begun = time.time()
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = begun + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), options.instances, options.processes)
        say(f"{TOTAL} categories drawn in {time.time() - begun:.1f} s")
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=family_process, args=(one, Path(folder), options, deadline))
            for one in options.families
        ]
        for worker in workers:
            worker.start()
        finished = 0
        while any(worker.is_alive() for worker in workers):
            time.sleep(1)
            if len(list(options.out.glob("mini-*.json"))) > finished:
                finished = collect(options.out, options.tar)
        say(f"{collect(options.out, options.tar)} checkpoints in {time.time() - begun:.0f} s")
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


if __name__ == "__main__":
    main()
