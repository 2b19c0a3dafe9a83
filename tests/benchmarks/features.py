"""How near extraction comes to the bare forward pass: `python tests/benchmarks/features.py [MODEL]... [--device cuda]`.

From stored JPEGs of 500 x 375 px to features, against a loop of the same model's forward over a batch that is there already,
in the same run, medians of interleaved rounds. Targets: 0.9 for ViTs, 0.75 for EfficientNet-B0, where decoding takes a core;
0.9 on a GPU from the decoded cache, in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.loader import photographs
from vitbench.api import Split
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.batch_size import LARGE_PX, ON_CPU
from vitbench.compute.environment import settle
from vitbench.compute.meter import Meter
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import seeded
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.image_folder import FolderSource
from vitbench.data.preprocess import preset
from vitbench.engine.components import load_all
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader

MODELS = ("vit_tiny_patch16_224", "vit_small_patch16_224", "resnetv2_50x1_bit", "efficientnet_b0")


def bare(backbone: BuiltBackbone, n: int, size: int, device: str, dtype: str) -> float:
    """Images a second of the forward alone."""
    side = backbone.input.size_px
    images = torch.rand(size, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
        for _ in range(n // size):
            backbone.features(images)
        if device == "cuda":
            torch.cuda.synchronize()
    return n // size * size / (time.perf_counter() - start)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    load_all()
    settle(None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = tuple(f"{i}.jpg" for i in range(options.n))
        for name, data in zip(names, photographs(options.n), strict=True):
            (root / name).write_bytes(data)
        source = FolderSource(root, names, exif_rotate=False)
        split = Split(source, np.arange(options.n), np.zeros(options.n, np.int64))
        for model in options.models:
            with seeded(0, "construction"):
                entry, module = BACKBONES.make(f"timm:{model}", {"pretrained": False})
            backbone = BuiltBackbone(module, model, entry.labels)
            backbone.to(options.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
            how = preset("fewshot" if options.device == "cuda" else "squash", backbone.input.size_px)
            decoded = DecodedCache(root / "decoded") if options.device == "cuda" else None
            rates: dict[str, list[float]] = {"bare": [], "features": []}
            for _ in range(options.rounds):
                size = ON_CPU if backbone.input.size_px < LARGE_PX else 16
                rates["bare"].append(bare(backbone, options.n, size, options.device, options.dtype))
                reader = FeatureReader(
                    backbone, how, options.device, options.dtype, FeatureCache(root / "features"), {}, (),
                    lambda _done, _total: None, Meter(options.device), decoded=decoded,
                )  # fmt: skip
                start = time.perf_counter()
                reader.extract(backbone, split)  # type: ignore[arg-type]
                rates["features"].append(options.n / (time.perf_counter() - start))
            middle = {name: statistics.median(values) for name, values in rates.items()}
            share = middle["features"] / middle["bare"]
            print(
                f"{model:28} bare {middle['bare']:7.1f}/s   features {middle['features']:7.1f}/s   {share:.2f}"
            )


if __name__ == "__main__":
    main()
