"""A real Ray cluster of several nodes on this machine: same records as here, whatever dies on the way."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from ray.cluster_utils import Cluster

from vitbench.errors import UsageError
from vitbench.launch import Launch, Overrides, Progress, run_suite

PLUGIN = """\
import os, time
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("told")
@dataclass(frozen=True)
class Told(Protocol):
    "Leaves a line, waits a little, and scores by random weights of its seed."
    log: str = ""

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        with open(self.log, "a") as file:
            file.write(f"{data.seed} {os.getpid()}\\n")
        time.sleep(0.3)
        weights = torch.randn(data.backbone.feature_dim, data.num_classes)
        return Adapted(data.backbone, lambda x: x @ weights, False)
"""
SUITE = """\
name: cluster
seeds: [{seeds}]
backbones: [{{name: raw_pixels, size_px: 4}}]
tasks: [digits]
protocols: [{{name: told, log: {log}}}, {{name: ridge_probe, seeds: [0], budgets: [2-shot]}}]
"""


class Count(Progress):
    """Counts what has ended."""

    def __init__(self):
        self.ended = 0

    def finished(self, record):
        self.ended += 1


@pytest.fixture
def cluster():
    nodes = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**nodes, "num_cpus": 0})
    made.workers = [made.add_node(**nodes) for _ in range(2)]
    yield made
    made.shutdown()


def essence(result):
    return [record.model_copy(update={"cost": None, "created": "", "env": None}) for record in result.records]


def pids(log):
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []


def wait_until(holds):
    until = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_the_same_records_although_a_worker_and_a_node_die(cluster, suite_file, tmp_path):
    plugin, log = tmp_path / "told.py", tmp_path / "log"
    plugin.write_text(PLUGIN)
    suite = suite_file(SUITE.format(seeds=", ".join(map(str, range(24))), log=log))
    overrides, progress = Overrides(plugins=[str(plugin)]), Count()
    found = []
    launch = Launch(executor="ray", address=cluster.address)
    with pytest.raises(UsageError, match="no node of the Ray cluster has a GPU"):
        run_suite(str(suite), tmp_path / "ray", overrides, replace(launch, device="cuda"))
    run = threading.Thread(
        target=lambda: found.append(run_suite(str(suite), tmp_path / "ray", overrides, launch, progress))
    )
    run.start()
    wait_until(lambda: progress.ended >= 3)
    first = set(pids(log))
    assert len(first) == 2  # a worker a node
    os.kill(pids(log)[-1], signal.SIGKILL)
    wait_until(lambda: len(set(pids(log))) == 3)
    cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
    run.join(180)
    (on_ray,) = found
    assert on_ray.failed == 0
    here = run_suite(str(suite), tmp_path / "here", overrides)
    assert essence(on_ray) == essence(here)
    for record in on_ray.records:
        assert on_ray.run.predictions(record).equals(here.run.predictions(record))
