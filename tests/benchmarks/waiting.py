"""How threads that wait for each other share a busy machine: `python tests/benchmarks/waiting.py [--rounds N] [SPINCOUNT]...`.

Seconds of a part of quickstart, with OpenMP's own wait, with a passive one, and with these of GOMP_SPINCOUNT; `chosen` is the
command's choice. In turn, so that what else the machine does meets all alike; alone, and beside as many busy processes as there
are cores. Medians over rounds. Targets: beside others at most 1.3 times the passive wait; alone no slower than OpenMP's own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

PART = (
    "--seeds",
    "0",
    "--backbone",
    "mini-vit-4",
    "--task",
    "digits",
    "--protocol",
    "ridge_probe",
    "--device",
    "cpu",
)
OWN = 300_000  # GOMP_SPINCOUNT's default (libgomp's manual)
BUSY = "import os, time\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"


def seconds(**variables: str) -> float:
    """Of the part, from an empty cache."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vitbench", "run", "quickstart", *PART, "--out", f"{folder}/run"]
        start = time.perf_counter()
        subprocess.run(
            command, env={**plain, **variables, "VITBENCH_CACHE": f"{folder}/cache"}, check=True, capture_output=True
        )  # fmt: skip
        return time.perf_counter() - start


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes that always compute."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("counts", nargs="*", metavar="SPINCOUNT")
    arguments = parser.parse_args()
    waits = {"own": {"GOMP_SPINCOUNT": str(OWN)}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "chosen": {}}
    waits |= {count: {"GOMP_SPINCOUNT": count} for count in arguments.counts}
    for others in (0, os.cpu_count() or 1):
        taken: dict[str, list[float]] = {name: [] for name in waits}
        with busy(others):
            for _ in range(arguments.rounds):
                for name, variables in waits.items():
                    taken[name].append(seconds(**variables))
                    print(f"beside {others}, {name}: {taken[name][-1]:.1f} s", flush=True)
        medians = {name: statistics.median(each) for name, each in taken.items()}
        for name, median in medians.items():
            print(
                f"beside {others} busy processes, {name:>8}: {median:6.1f} s, {median / medians['passive']:.2f} of passive"
            )


if __name__ == "__main__":
    main()
