"""What `vitbench.evaluate` adds to the work itself: `python tests/benchmarks/evaluate.py`.

The seconds of a call that has nothing to run, the median of five, for a ViT of 86 million parameters in a training loop.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import timm

sys.path.insert(0, str(Path(__file__).parents[2]))
import vitbench

MOST_S = 1.0


def main() -> None:
    """Measure and print; exit 1 above the limit."""
    model = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0, img_size=32).train()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITBENCH_CACHE"] = f"{folder}/cache"

        def call() -> float:
            start = time.perf_counter()
            vitbench.evaluate(
                model, ["digits"], protocols=["knn"], size_px=32, limit=40, out=f"{folder}/run", quiet=True
            )
            return time.perf_counter() - start

        first, again = call(), [call() for _ in range(5)]
    median = statistics.median(again)
    print(f"first call {first:.2f} s, a call with nothing to run {median:.2f} s (limit {MOST_S:g} s)")
    sys.exit(median > MOST_S)


if __name__ == "__main__":
    main()
