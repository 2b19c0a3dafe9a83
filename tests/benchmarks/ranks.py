"""Ranks: `python tests/benchmarks/ranks.py [--backbones 500] [--tasks 19] [--seeds 1]`. CPU seconds, and the highest memory.

500 backbones on 19 tasks of 10,000 images are ranked in under 10 CPU seconds and 500 MB.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from vitbench.report.ranks import column_of_tables, ranked

IMAGES = 10_000
MOST_SECONDS, MOST_MIB = 10, 500


def main() -> None:
    """Rank made-up outcomes; making them is not counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in (("backbones", 500), ("tasks", 19), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    generator, seconds, columns = np.random.default_rng(0), 0.0, []
    means = [Fraction(0)] * options.backbones
    for _ in range(options.tasks):
        levels = 0.7 + 0.1 * np.arange(options.backbones) / options.backbones
        tables = [
            (generator.random((options.seeds, IMAGES), dtype=np.float32) < level).astype(np.uint8)
            for level in levels
        ]
        begun = time.process_time()
        columns.append(column_of_tables(tables))
        seconds += time.process_time() - begun
        means = [
            mean + Fraction(int(table.sum()), table.size) for mean, table in zip(means, tables, strict=True)
        ]
    begun = time.process_time()
    found = ranked(columns, means)
    seconds += time.process_time() - begun
    mib = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
    print(
        f"{options.backbones} backbones x {options.tasks} tasks x {options.seeds} seeds: "
        f"{seconds:.1f} CPU s (target {MOST_SECONDS}), "
        f"{mib:.0f} MiB with the outcomes of one task (target {MOST_MIB}); {sum(row.first for row in found)} may be first"
    )


if __name__ == "__main__":
    main()
