"""Commands among thousands of jobs: `python tests/benchmarks/many_records.py`. Exits with 1 where one exceeds its limits.

A dry run of 100,000 jobs, and `compare`, `export` and `report` among 20,000 records with predictions, which are those of a few
real jobs under other keys. Limits are seconds of processor time and MiB at the peak. Those of a dry run are beyond what a dry
run of one job takes, most of which is torch: 550 MiB for `import torch` with CUDA, and 400 MiB for counting FLOPs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import vitbench
from vitbench.engine.run import Overrides, plan_suite
from vitbench.store.plan_file import write_plan
from vitbench.store.run_dir import RunDir

COMMAND = [sys.executable, "-m", "vitbench"]
# From a small process: the peak of a process begins at the size of the one that it was forked from.
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def suite(path: Path, backbones: int, seeds: int, budgets: int) -> Path:
    """A suite of backbones x 2 tasks x budgets x seeds."""
    rows = "\n".join(f"  - {{name: raw_pixels, size_px: {i}, label: p{i}}}" for i in range(2, 2 + backbones))
    path.write_text(
        f"name: many\nlimit: 20\nseeds: [{', '.join(map(str, range(seeds)))}]\ntasks: [digits, photo_regions]\n"
        f"budgets: [{', '.join(f'{i}-shot' for i in range(1, budgets + 1))}]\nbackbones:\n{rows}\nprotocols: [ridge_probe]\n"
    )
    return path


def run_of(place: Path, path: Path) -> Path:
    """A run directory with records of all jobs of a suite, copied from those of its first backbone and seed."""
    one = suite(place / "one.yaml", 1, 1, 5)
    found = {(r.job.task.label, r.job.budget): r for r in vitbench.run(one, place / "one")}
    planned = plan_suite(str(path), place / "run", Overrides())
    write_plan(planned.run.path, planned.suite.lock, planned.suite.jobs)
    os.fsync = lambda _: None  # type: ignore[assignment]  # thousands of files that nobody needs after a crash
    for job in planned.suite.jobs:
        model = found[job.task.label, job.budget]
        table = RunDir(place / "one").predictions(model)
        planned.run.write(model.model_copy(update={"job": job, "key": job.key}), table)
    return planned.run.path


def measured(*arguments: object) -> tuple[float, float]:
    """Seconds of processor time and MiB at the peak of a command."""
    command = [sys.executable, "-c", MEASURE, *COMMAND, *map(str, arguments)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, mib = map(float, said.split())
    return seconds, mib


def within(what: str, found: tuple[float, float], limits: tuple[float, float]) -> bool:
    """Print a measurement beside its limits, and return whether it is within them."""
    print(f"{what}: {found[0]:.1f} s (limit {limits[0]}), {found[1]:.0f} MiB (limit {limits[1]})", flush=True)
    return found[0] <= limits[0] and found[1] <= limits[1]


def dry_run(place: Path) -> bool:
    """A hundred thousand jobs against one."""
    few = measured("run", suite(place / "few.yaml", 1, 1, 1), "--dry-run", "--out", place / "few")
    many = measured("run", suite(place / "many.yaml", 100, 100, 5), "--dry-run", "--out", place / "many")
    beyond = (many[0] - few[0], many[1] - few[1])
    print(f"one job: {few[0]:.1f} s, {few[1]:.0f} MiB")
    return within("a dry run of 100,000 jobs beyond that", beyond, (10, 100))


def main() -> int:
    """Measure, print and compare with limits."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["VITBENCH_CACHE"] = f"{name}/cache"
        good = [dry_run(place)]
        run = run_of(place, suite(place / "records.yaml", 100, 20, 5))
        pair = measured("compare", run, "--backbones", "p2", "p3")
        good.append(within("compare of two backbones among 20,000 records", pair, (10, 250)))
        table = measured("export", run, "-o", place / "all.csv")
        good.append(within("export of 20,000 records", table, (15, 700)))
        page = measured("report", run)
        good.append(within("report of 20,000 records", page, (30, 900)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
