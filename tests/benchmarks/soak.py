"""Kill a run again and again, and see that nothing is lost: `python tests/benchmarks/soak.py [--kills 200] [--jobs 500]`.

A suite of so many jobs runs on two workers; at random moments its driver or one of its workers gets SIGKILL, and whenever no
driver is left the same command is given again. After each kill every record that was there must still be there, unchanged, and
every file whole; at the end all results must be those of a run that nobody disturbed, which computes its own features. With
`--ray` the run is on a cluster of three nodes on this machine: nodes are killed and replaced, workers and drivers killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir

PLUGIN = """\
import time
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("brief")
@dataclass(frozen=True)
class Brief(Protocol):
    "Reads features, waits a little, and scores by random weights of its seed."

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        x = data.features(data.train)
        time.sleep(@SECONDS@)
        weights = x.mean() + torch.randn(x.shape[1], data.num_classes)
        return Adapted(data.backbone, lambda x: x @ weights, False)
"""
BACKBONES = 10


def suite(place: Path, jobs: int, seconds: float) -> Path:
    """A suite of so many jobs over ten feature sets."""
    (place / "brief.py").write_text(PLUGIN.replace("@SECONDS@", str(seconds)))
    backbones = "\n".join(
        f"  - {{name: raw_pixels, size_px: {i}, label: p{i}}}" for i in range(2, 2 + BACKBONES)
    )
    seeds = ", ".join(map(str, range(-(-jobs // BACKBONES))))
    path = place / "soak.yaml"
    path.write_text(
        f"name: soak\nseeds: [{seeds}]\nbackbones:\n{backbones}\ntasks: [digits]\nprotocols: [brief]\n"
    )
    return path


def start(place: Path, out: Path, *how: str, cache: str = "cache") -> subprocess.Popen[bytes]:
    """The command that every driver is."""
    command = [
        sys.executable,
        "-m",
        "vitbench",
        "run",
        place / "soak.yaml",
        "--plugin",
        place / "brief.py",
        "--out",
        out,
        *how,
    ]
    log = (place / "said.txt").open("ab")
    return subprocess.Popen(
        command, stdout=log, stderr=log, start_new_session=True,
        env={**os.environ, "VITBENCH_CACHE": str(place / cache), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return found


def workers_of(pid: int) -> list[int]:
    """The processes that work for a driver: children of the server that its workers are forked off."""
    parent_of = parents()
    below = [child for child, parent in parent_of.items() if parent == pid]
    return [child for child, parent in parent_of.items() if parent in below]


class Seen:
    """The records there are, and what must stay true of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.known: dict[str, tuple[int, int]] = {}
        self.lost = self.rewritten = self.torn = 0

    def look(self) -> int:
        """Compare with what was there before."""
        now = {}
        for path in (self.out / "records").glob("*.json"):
            facts = path.stat()
            now[path.name] = (facts.st_ino, facts.st_mtime_ns)
            if path.name not in self.known and RunDir(self.out).read(path.stem) is None:
                self.torn += 1
        self.lost += len(self.known.keys() - now.keys())
        self.rewritten += sum(now.get(name, facts) != facts for name, facts in self.known.items())
        self.known = now
        return len(now)


def essence(out: Path) -> dict[str, object]:
    """All results of a run directory, predictions included."""
    return {record.key: (record.metrics, record.predictions_sha256, record.status) for record in load(out)}


def soak(place: Path, kills: int, jobs: int, minutes: float, rng: random.Random) -> bool:
    """Kill until all is done or enough; whether everything held."""
    out, seen, killed = place / "run", Seen(place / "run"), Counter[str]()
    until, starts = time.monotonic() + 60 * minutes, 0
    driver = None
    while time.monotonic() < until and seen.look() < jobs:
        if driver is None or driver.poll() is not None:
            driver, starts = start(place, out, "--workers", "2"), starts + 1
        before = len(seen.known)
        ready = time.monotonic() + 20
        while driver.poll() is None and seen.look() == before and time.monotonic() < ready:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.25))
        if sum(killed.values()) < kills and driver.poll() is None:
            crew = workers_of(driver.pid)
            target, what = (
                (rng.choice(crew), "worker") if crew and rng.random() < 0.5 else (driver.pid, "driver")
            )
            try:
                os.kill(target, signal.SIGKILL)
                killed[what] += 1
            except ProcessLookupError:
                continue
    while seen.look() < jobs and time.monotonic() < until + 600:
        code = start(place, out, "--workers", "2").wait()
        if code not in (0, 1):
            break
    # A job whose worker was killed twice counts as one that kills its worker.
    twice = sum(record.status == "failed" for record in load(out))
    start(place, out, "--workers", "2", "--retry-failed").wait()
    quiet = place / "quiet"
    start(place, quiet, "--workers", "2", cache="quiet-cache").wait()
    same = essence(out) == essence(quiet)
    drafts = list(out.rglob("*.tmp"))
    print(
        f"{sum(killed.values())} kills ({dict(killed)}) over {jobs} jobs, {starts} starts: {len(seen.known)} records, "
        f"{seen.lost} lost, {seen.rewritten} done twice, {seen.torn} torn, {twice} killed twice and retried, "
        f"results as undisturbed: {same}; {len(drafts)} drafts of killed writers left"
    )
    return same and len(seen.known) == jobs and not (seen.lost or seen.rewritten or seen.torn)


def actors() -> list[int]:
    """Processes of the cluster that work on jobs; another cluster on this machine is not ours to kill."""
    parent_of, found = parents(), []
    for pid in parent_of:
        try:
            works = b"ray::RayWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if works and os.getpid() in _ancestors(pid, parent_of):
            found.append(pid)
    return found


def _ancestors(pid: int, parent_of: dict[int, int]) -> list[int]:
    found = []
    while pid := parent_of.get(pid, 0):
        found.append(pid)
    return found


def on_ray(place: Path, kills: int, jobs: int, minutes: float, rng: random.Random) -> bool:
    """The same on a cluster, whose nodes, workers and drivers die."""
    from ray.cluster_utils import Cluster

    shape = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  its name
    cluster = Cluster(initialize_head=True, head_node_args={**shape, "num_cpus": 0})
    nodes = [cluster.add_node(**shape) for _ in range(2)]
    out, seen, killed = place / "run", Seen(place / "run"), Counter[str]()
    until, how = time.monotonic() + 60 * minutes, ("--executor", "ray", "--address", cluster.address)
    driver, starts = start(place, out, *how), 1
    while seen.look() < jobs and time.monotonic() < until:
        if driver.poll() is not None:
            driver, starts = start(place, out, *how), starts + 1
        before = len(seen.known)
        left = kills - sum(killed.values())  # a new node takes a while, and jobs end meanwhile
        enough = min(before + max((jobs - before) * 4 // (5 * max(left, 1)), 1), jobs)
        while driver.poll() is None and seen.look() < enough and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 0.25))
        if sum(killed.values()) < kills and driver.poll() is None:
            what, crew = rng.choice(("node", "worker", "driver")), actors()
            if what == "node":
                cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
                nodes.append(cluster.add_node(**shape))
            elif what == "worker" and crew:
                os.kill(rng.choice(crew), signal.SIGKILL)
            else:
                what = "driver"
                driver.kill()
            killed[what] += 1
            print(f"{dict(killed)}, {len(seen.known)} records", file=sys.stderr, flush=True)
    code = driver.wait()
    while seen.look() < jobs and time.monotonic() < until + 600:
        code, starts = start(place, out, *how).wait(), starts + 1
    twice = sum(record.status == "failed" for record in load(out))
    quiet = place / "quiet"
    start(place, out, "--retry-failed").wait()
    start(place, quiet, cache="quiet-cache").wait()
    same = essence(out) == essence(quiet)
    cluster.shutdown()
    print(
        f"Ray: {sum(killed.values())} kills ({dict(killed)}) over {jobs} jobs, {starts} starts, last exit {code}: "
        f"{len(seen.known)} records, {seen.lost} lost, {seen.rewritten} done twice, {seen.torn} torn, "
        f"{twice} killed twice and retried, results as undisturbed: {same}"
    )
    return same and len(seen.known) == jobs and not (seen.lost or seen.rewritten or seen.torn)


def main() -> None:
    """Run and print; exit 1 if anything was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        suite(Path(name), options.jobs, 0.5 if options.ray else 0.15)
        how = (Path(name), options.kills, options.jobs, options.minutes, random.Random(options.seed))
        held = on_ray(*how) if options.ray else soak(*how)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
