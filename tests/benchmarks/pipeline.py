"""What bounds extraction on a GPU that is not here: `python tests/benchmarks/pipeline.py [--card h100] [--cores 16]`.

Each stage is timed here on one thread, as processor time an image; the forward pass is that of the card's roofline
in bfloat16 (docs/protocols.md#roofline). Stages overlap, so the slowest resource sets the pace: the cores that decode, read and
write share their number; the interpreter's lock, the thread that launches, the one that writes, and the link are one each.
Printed for ViT-B/16 from JPEGs, from JPEGs with the cache written, and from the cache: what bounds, and the share of the bare
forward pass. Target: 0.9. Assumed: the link, a launch, and that cores are as fast as these, also when all are busy; by how much
they may be slower is printed. On an H200 with 12 cores 0.35 was measured from JPEGs (reports/gpu), far below this prediction.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.photographs import Jpegs
from vitbench.api import Split
from vitbench.backbones.known_costs import known_cost
from vitbench.compute.environment import settle
from vitbench.compute.roofline import card, forward_s
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import FEW, _Load, alone
from vitbench.data.preprocess import buffer, preset
from vitbench.engine.feature_cache import FeatureCache

SPEC = "timm:vit_base_patch16_224.orig_in21k"
BATCH, ROUNDS = 512, 5
# PCI Express 5.0: 32 GT/s on 16 lanes, 128 bits in 130; copies from pinned memory reach about 0.8 of it (assumed).
LINK_BYTES_S = 0.8 * 32e9 * 16 * 128 / 130 / 8
# Operators of a pass: 25 a block and what stands around them; 10 us each for Python and dispatch (assumed).
LAUNCH_S = (25 * 12 + 20) * 10e-6
TARGET = 0.9


def processor_s(run: Callable[[], object]) -> float:
    """Seconds of processor time of a call on a thread like the loader's: the least of several, after one that warms up."""

    def timed() -> float:
        start = time.thread_time()
        run()
        return time.thread_time() - start

    with ThreadPoolExecutor(1, initializer=alone) as pool:
        return min([pool.submit(timed).result() for _ in range(ROUNDS + 1)][1:])


def piece_s(source: object, size_px: int, images: int = 96) -> float:
    """Of reading, decoding and resizing one image into its batch."""
    split = Split(source, np.arange(images), np.zeros(images, np.int64))  # type: ignore[arg-type]
    load = _Load(split, preset("fewshot", size_px), "cpu", images)
    room = buffer(images, load.how, "cpu")
    pieces = range(0, images, FEW)
    return processor_s(lambda: [load._piece(first, room[first : first + FEW]) for first in pieces]) / images


def tiny() -> Jpegs:
    """JPEGs so small that what is left is Python and torch's dispatch: at most so long is the interpreter's lock held."""
    source, file = Jpegs(1), io.BytesIO()
    Image.new("RGB", (130, 1)).save(file, "JPEG")
    source.encoded = [file.getvalue()]
    return source


def cache_s(size_px: int, folder: Path) -> tuple[float, float]:
    """Of writing one image to the cache of decoded images, and of reading one, from the system's page cache."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, size_px, size_px, 3), dtype=np.uint8)
    store, room = DecodedCache(folder), torch.empty(pixels.shape, dtype=torch.uint8)

    def write() -> None:
        writer = store.writer("key", BATCH, pixels)
        assert writer is not None
        assert writer.add(pixels)
        writer.finish()

    written = processor_s(write)
    kept = store.open("key")
    assert kept is not None
    return written / BATCH, processor_s(lambda: np.copyto(room.numpy(), kept)) / BATCH


def features_s(width: int, folder: Path) -> float:
    """Of writing the features of one image to their cache."""
    batch = torch.randn(BATCH, width)

    def write() -> None:
        incoming = FeatureCache(folder).incoming("key", BATCH)
        incoming.add(batch)
        incoming.finish({})

    return processor_s(write) / BATCH


def stages(size_px: int, card_name: str) -> tuple[dict[str, float], float]:
    """Seconds an image by stage, and of the bare forward pass."""
    cost = known_cost(SPEC, {})
    assert cost is not None
    with tempfile.TemporaryDirectory() as folder:
        write, read = cache_s(size_px, Path(folder))
        features = features_s(cost.feature_dim, Path(folder))
    found = {
        "decode and resize": piece_s(Jpegs(96), size_px), "of that, interpreter at most": piece_s(tiny(), 2),
        "write images": write, "read images": read, "write features": features,
        "copy to the GPU": 3 * size_px**2 / LINK_BYTES_S, "launch": LAUNCH_S / BATCH,
    }  # fmt: skip
    return found, forward_s(cost.sizes[size_px], card(card_name), "bfloat16")


def resources(stage: dict[str, float], cores: int, origin: str) -> dict[str, float]:
    """Seconds an image that each resource is busy."""
    decodes, writes = origin != "cache", origin == "JPEG, writing the cache"
    on_cores = (stage["decode and resize"] if decodes else stage["read images"]) + stage["write features"]
    on_cores += stage["launch"] + (stage["write images"] if writes else 0.0)
    lock = stage["of that, interpreter at most"] if decodes else 0.0
    return {
        "cores": on_cores / cores, "the interpreter's lock": lock + stage["launch"], "the launching thread": stage["launch"],
        "the writing thread": max(stage["write images"] if writes else 0.0, stage["write features"]),
        "the link": stage["copy to the GPU"],
    }  # fmt: skip


def main() -> None:
    """Measure, predict, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--card", default="h100")
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--size-px", type=int, default=224, choices=(224, 384))
    options = parser.parse_args()
    settle(None)
    stage, bare = stages(options.size_px, options.card)
    for name, seconds in stage.items():
        print(f"{name:32} {seconds * 1e6:8.1f} us an image")
    print(f"{f'forward pass on {options.card}, roofline':32} {bare * 1e6:8.1f} us an image, {1 / bare:.0f}/s")
    for origin in ("JPEG", "JPEG, writing the cache", "cache"):
        busy = resources(stage, options.cores, origin)
        slowest = max(busy, key=lambda name: busy[name])
        share = bare / max(bare, busy[slowest])
        slack = bare / TARGET / busy["cores"]
        shown = ", ".join(f"{name} {seconds / bare:.2f}" for name, seconds in busy.items())
        print(
            f"from {origin}: {share:.2f} of bare (target {TARGET}), bound by {slowest if busy[slowest] > bare else 'the GPU'}; "
            f"busy for each second of the GPU's: {shown}; cores may be {slack:.2f} times slower"
        )


if __name__ == "__main__":
    main()
