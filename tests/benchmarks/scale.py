"""Many jobs: `python tests/benchmarks/scale.py [--jobs 10000]`. What planning, resuming and reporting take, and what jobs cost.

10,000 jobs planned (target 2 s), resumed (5 s) and reported (10 s), the last two as whole commands, with the records and
predictions of one real job under as many keys; the
driver's memory from 100 jobs to 1,100; overhead per job beyond the work (50 ms), and throughput on two workers against one with
jobs that only compute (0.9 of linear, where the machine has two free cores).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import vitbench
from vitbench.engine.run import Overrides, Progress, RunOptions, plan_suite, run_planned
from vitbench.store.run_dir import RunDir

PLUGIN = """\
import time
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("turns")
@dataclass(frozen=True)
class Turns(Protocol):
    "Computes on one core for a while, out of its cache."
    seconds: float = 0.0

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            sum(range(1000))
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)
"""


def suite(place: Path, jobs: int, seconds: float = 0.0) -> Path:
    """So many jobs: ten backbones, ten budgets where there are many, and seeds."""
    (place / "turns.py").write_text(PLUGIN)
    many = jobs >= 1000
    backbones = "\n".join(
        f"  - {{name: raw_pixels, size_px: {i}, label: p{i}}}" for i in range(2, 12 if many else 3)
    )
    budgets = ", ".join(f"{i}-shot" for i in range(1, 11)) if many else "full"
    seeds = ", ".join(map(str, range(jobs // 100 if many else jobs)))
    path = place / f"s{jobs}.yaml"
    path.write_text(
        f"name: scale\nlimit: 20\nseeds: [{seeds}]\nbudgets: [{budgets}]\nbackbones:\n{backbones}\ntasks: [digits]\n"
        f"protocols: [{{name: turns, seconds: {seconds}}}]\n"
    )
    return path


def many(place: Path, jobs: int) -> None:
    """Plan, resume and report."""
    overrides = Overrides(plugins=[str(place / "turns.py")])
    path = suite(place, jobs)
    (model,) = vitbench.run(suite(place, 1), place / "one", plugins=overrides.plugins)
    fresh, full, shown = [], [], []
    command = [sys.executable, "-m", "vitbench"]
    for i in range(3):
        begun = time.perf_counter()
        planned = plan_suite(str(path), place / "none", overrides)
        fresh.append(time.perf_counter() - begun)
        if i == 0:
            run = RunDir(place / "many")
            table = RunDir(place / "one").predictions(model)
            for job in planned.suite.jobs:
                run.write(model.model_copy(update={"job": job, "key": job.key}), table)
            subprocess.run([*command, "report", place / "many"], check=True, capture_output=True)
        again = [*command, "run", path, "--plugin", place / "turns.py", "--out", place / "many"]
        begun = time.perf_counter()
        said = subprocess.run(again, check=True, capture_output=True, text=True).stderr
        full.append(time.perf_counter() - begun)
        assert "0 new" in said or "nothing to do" in said, said
        if i == 0:  # the first also made the page of the run
            full.clear()
        begun = time.perf_counter()
        subprocess.run([*command, "report", place / "many"], check=True, capture_output=True)
        shown.append(time.perf_counter() - begun)
    size = (place / "many" / "report.html").stat().st_size
    print(
        f"{len(planned.suite.jobs)} jobs: planned in {statistics.median(fresh):.2f} s (target 2), "
        f"resumed in {statistics.median(full):.2f} s (5), reported in {statistics.median(shown):.2f} s (10), "
        f"page {size / 2**20:.1f} MB"
    )


class Memory(Progress):
    """The driver's memory as jobs end."""

    def __init__(self) -> None:
        self.mib: list[float] = []

    def finished(self, record: object) -> None:
        """Look at it now."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.mib.append(pages * resource.getpagesize() / 2**20)


def driver(place: Path, jobs: int) -> None:
    """Memory, and seconds a job that does nothing."""
    overrides = Overrides(plugins=[str(place / "turns.py")])
    planned = plan_suite(str(suite(place, jobs)), place / "driver", overrides)
    memory, begun = Memory(), time.perf_counter()
    result = run_planned(planned, RunOptions(device="cpu"), memory)
    taken = time.perf_counter() - begun
    inside = sum(record.cost.total_s for record in result.records if record.cost)
    early, late = memory.mib[min(100, jobs // 10)], memory.mib[-1]
    print(
        f"{jobs} jobs that do nothing: {1000 * taken / jobs:.1f} ms each, {1000 * (taken - inside) / jobs:.1f} ms of it "
        f"outside their phases (target 50); memory {early:.0f} MiB after 100 jobs, {late:.0f} MiB at the end"
    )


def throughput(place: Path, seconds: float) -> None:
    """Two workers against one, as whole commands of two lengths, so that start-up drops out."""
    taken: dict[tuple[int, int], float] = {}
    for jobs in (4, 44):
        path = suite(place, jobs, seconds)
        for workers in (1, 2):
            out = place / f"t{jobs}-{workers}"
            command = [
                sys.executable,
                "-m",
                "vitbench",
                "run",
                path,
                "--plugin",
                place / "turns.py",
                "--out",
                out,
            ]
            begun = time.perf_counter()
            subprocess.run(
                [*command, "--workers", str(workers)], check=True, capture_output=True, env={**os.environ}
            )
            taken[jobs, workers] = time.perf_counter() - begun
    one, two = (40 / (taken[44, w] - taken[4, w]) for w in (1, 2))
    print(
        f"jobs of {seconds} s: {one:.2f} a second on one worker, {two:.2f} on two, {two / one / 2:.2f} of linear (target 0.9)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["VITBENCH_CACHE"] = f"{name}/cache"
        place = Path(name)
        throughput(place, 0.5)
        driver(place, 1100)
        many(place, options.jobs)


if __name__ == "__main__":
    main()
