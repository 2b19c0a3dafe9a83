"""How threads that wait for each other share a machine: `python tests/benchmarks/waiting.py [--rounds N] [SPINCOUNT]...`.

Seconds of a part of quickstart, with OpenMP's own wait, with a passive one, and with these of GOMP_SPINCOUNT; `chosen` is the
command's choice. In turn, so that what else the machine does meets all alike; alone, and beside as many busy processes as there
are cores (not with `--alone`). Medians over rounds; alone, also the ratio to OpenMP's own wait round by round. Targets: beside
others at most 1.3 times the passive wait; alone no slower than OpenMP's own. Before each run of those alone the idle share of
the cores is measured: where it was below 0.9 the machine was not quiet, the script says so, and ends with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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


QUIET = 0.9  # share of all cores that is idle


def idle_share(over_s: float = 1.0) -> float | None:
    """The share of all cores' time in which they were idle, over a second; None where Linux does not tell."""

    def ticks() -> list[int]:
        return [
            int(each)
            for each in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
        ]

    try:
        before = ticks()
        time.sleep(over_s)
        spent = [after - first for after, first in zip(ticks(), before, strict=True)]
    except OSError:
        return None
    return (spent[3] + spent[4]) / max(math.fsum(spent), 1)  # idle, and waiting for a disk


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


def measured(
    waits: dict[str, dict[str, str]], rounds: int, others: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds by wait, in turn, and the idle shares before each run, beside so many busy processes."""
    taken: dict[str, list[float]] = {name: [] for name in waits}
    idle = []
    with busy(others):
        for turn in range(rounds):
            names = list(waits) if turn % 2 == 0 else list(reversed(waits))  # none is always first
            for name in names:
                share = None if others else idle_share()
                idle += [] if share is None else [share]
                taken[name].append(seconds(**waits[name]))
                said = "" if share is None else f", {share:.0%} idle before"
                print(f"beside {others}, {name}: {taken[name][-1]:.1f} s{said}", flush=True)
    return taken, idle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="not beside busy processes")
    parser.add_argument("counts", nargs="*", metavar="SPINCOUNT")
    arguments = parser.parse_args()
    waits = {"own": {"GOMP_SPINCOUNT": str(OWN)}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "chosen": {}}
    waits |= {count: {"GOMP_SPINCOUNT": count} for count in arguments.counts}
    was_quiet = True
    for others in (0,) if arguments.alone else (0, os.cpu_count() or 1):
        taken, idle = measured(waits, arguments.rounds, others)
        medians = {name: statistics.median(each) for name, each in taken.items()}
        for name, median in medians.items():
            line = f"beside {others} busy processes, {name:>8}: {median:6.1f} s, {median / medians['passive']:.2f} of passive"
            if not others:
                ratios = [one / own for one, own in zip(taken[name], taken["own"], strict=True)]
                line += f", {statistics.median(ratios):.3f} of own ({min(ratios):.3f} to {max(ratios):.3f})"
            print(line)
        if not others:
            was_quiet = bool(idle) and min(idle) >= QUIET
            print(
                f"idle before the runs: at least {min(idle, default=0):.0%}"
                + ("" if was_quiet else ": NOT QUIET")
            )
    sys.exit(0 if was_quiet else 1)


if __name__ == "__main__":
    main()
