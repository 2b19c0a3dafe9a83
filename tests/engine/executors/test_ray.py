"""A real Ray cluster of several nodes on this machine: same records as here, whatever dies on the way."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.making.jobs import make_job
from tests.making.plugins import REPLICATED, SMALL_CNN
from tests.making.records import essence
from tests.making.runs import wait_until
from vitbench.core.errors import UsageError
from vitbench.engine.executors.ray import NICENESS, RayPool, _joined
from vitbench.engine.executors.ray_memory import WORKER_BYTES, MemoryNeeds
from vitbench.engine.executors.ray_nodes import Need, offered, one_each, several
from vitbench.engine.executors.workers import Workers
from vitbench.engine.run import Overrides, Progress, RunOptions, run_suite

PLUGIN = """\
import os, time
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("told")
@dataclass(frozen=True)
class Told(Protocol):
    "Leaves a line, takes a second until the last worker is there, and scores by random weights of its seed."
    log: str = ""  # `at:` and a path, whose content would otherwise be in the key

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        with open(self.log[3:], "a") as file:
            file.write(f"{data.seed} {os.getpid()}\\n")
        time.sleep(0 if os.path.exists(self.log[3:] + ".all") else 1)
        weights = torch.randn(data.backbone.feature_dim, data.num_classes)
        return Adapted(data.backbone, lambda x: x @ weights, False)
"""
SUITE = """\
name: cluster
seeds: [{seeds}]
backbones: [{{name: raw_pixels, size_px: 4}}]
tasks: [digits]
protocols: [{{name: told, log: 'at:{log}'}}, {{name: ridge_probe, seeds: [0], budgets: [2-shot]}}]
"""


class Count(Progress):
    """Counts what has ended."""

    def __init__(self):
        self.ended = 0

    def finished(self, record):
        self.ended += 1


NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv(NICENESS, "0")  # read by nodes when they start
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    made.workers = [made.add_node(**NODE) for _ in range(2)]
    yield made
    made.shutdown()


def pids(log):
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []


LONG_S = 300  # beside other processes a worker takes a minute to start


@pytest.mark.slow
def test_the_same_records_although_a_worker_and_a_node_die(cluster, suite_file, tmp_path):
    plugin, log = tmp_path / "told.py", tmp_path / "log"
    plugin.write_text(PLUGIN)
    suite = suite_file(SUITE.format(seeds=", ".join(map(str, range(200))), log=log))
    overrides, progress = Overrides(plugins=[str(plugin)]), Count()
    options = RunOptions(executor="ray", address=cluster.address)
    with pytest.raises(UsageError, match="no node of the Ray cluster has a GPU"):
        run_suite(str(suite), tmp_path / "ray", overrides, replace(options, device="cuda"))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_suite, str(suite), tmp_path / "ray", overrides, options, progress)

        def wait_for_workers(count, ended):
            """Return when so many processes have worked and so many jobs have ended; raise what the run raises."""
            wait_until(
                lambda: run.done() or (len(set(pids(log))) >= count and progress.ended >= ended), LONG_S
            )
            assert not run.done(), run.result()

        try:
            wait_for_workers(2, 3)  # a worker a node
            os.kill(pids(log)[-1], signal.SIGKILL)
            # The job that it had is done before the node dies: one that is killed twice has failed.
            wait_for_workers(3, progress.ended + 4)
            # Not the one that the driver is joined to, which Ray chooses.
            own = ray.get_runtime_context().get_node_id()
            others = [node for node in cluster.workers if node.node_id != own]
            cluster.remove_node(others[-1], allow_graceful=False)
            cluster.add_node(**NODE, memory=8 * 10**9)  # less than that had
            wait_for_workers(4, progress.ended)
        finally:  # a thread that works on would disturb the next test
            (tmp_path / "log.all").touch()
        on_ray = run.result(LONG_S)
    assert on_ray.failed == 0
    here = run_suite(str(suite), tmp_path / "here", overrides)
    assert essence(on_ray.records) == essence(here.records)
    for record in on_ray.records:
        assert on_ray.run.predictions(record).equals(here.run.predictions(record))


def node(**resources):
    return {"Alive": True, "Resources": {"memory": 64e9, **resources}}


HEAD, SMALL, LARGE = node(CPU=0.0), node(CPU=4.0, memory=8e9), node(CPU=16.0, GPU=4.0)


def test_actors_take_a_gpu_each_or_a_share_of_a_node():
    assert one_each("cuda", [HEAD, SMALL, LARGE], None) == [Need(4.0, 1.0, 16_000_000_000)] * 4
    assert one_each("cuda", [LARGE], 2) == [Need(4.0, 1.0, 16_000_000_000)] * 2
    assert one_each("cpu", [HEAD, SMALL, LARGE], None) == [
        Need(4.0, 0.0, 8_000_000_000),
        Need(16.0, 0.0, 64_000_000_000),
    ]
    assert one_each("cpu", [SMALL], 3) == [Need(1.0, 0.0, 2_666_666_666)] * 3
    with pytest.raises(UsageError, match="has a free CPU core for a worker"):
        one_each("cpu", [HEAD], None)


def test_a_job_of_several_gpus_takes_the_smallest_node_that_has_them():
    larger = node(CPU=32.0, GPU=8.0)
    assert several("cuda", [larger, LARGE, HEAD], 4) == [Need(16.0, 4.0, 64_000_000_000)]
    assert several("cpu", [HEAD, SMALL, LARGE], 4) == [Need(16.0, 0.0, 64_000_000_000)]
    with pytest.raises(UsageError, match="asks for 16 GPUs, and no node has more than 8"):
        several("cuda", [larger, LARGE], 16)


def test_an_actor_is_offered_what_a_node_has_left():
    """A node that came instead of a lost one declares a little less memory than that had."""
    nodes = [{"NodeID": "a", **LARGE}, {"NodeID": "b", **node(CPU=4.0, memory=7e9)}, {"NodeID": "h", **HEAD}]
    need, other = Need(4.0, 0.0, 8_000_000_000), Need(13.0, 0.0, 60_000_000_000)
    assert offered(need, nodes, []) == ("a", need)
    assert offered(need, nodes, [("a", other)]) == ("b", Need(4.0, 0.0, 7_000_000_000))
    assert offered(need, nodes, [("a", other), ("b", need)]) is None
    assert offered(Need(4.0, 1.0, 1), nodes, [("a", Need(1.0, 4.0, 1))]) is None


@pytest.mark.slow
def test_a_job_of_two_processes_runs_beside_others(cluster, suite_file, tmp_path):
    """A recipe's replicas share one node; the record is that of a run here."""
    plugin = tmp_path / "small_cnn.py"
    plugin.write_text(SMALL_CNN)
    suite, overrides = str(suite_file(REPLICATED)), Overrides(plugins=[str(plugin)])
    options = RunOptions(executor="ray", address=cluster.address, device="cpu")
    on_ray = run_suite(suite, tmp_path / "ray", overrides, options)
    here = run_suite(suite, tmp_path / "here", overrides, RunOptions(device="cpu"))
    assert len(on_ray.records) == 2
    assert [record.failure for record in on_ray.records] == [None, None]
    assert essence(on_ray.records) == essence(here.records)


class FakeRay:
    """Actors that are done at once, and tell what memory they had. Those with `never`, or more than `room`, do not start."""

    exceptions = ray.exceptions

    def __init__(self, never=None, room=100):
        self.never, self.room = never, room

    def nodes(self):
        return [{"NodeID": "only", **node(CPU=2.0, memory=self.room)}]

    def remote(self, _bench):
        return FakeActor

    def wait(self, references, num_returns=1, timeout=0):
        ready = [each for each in references if each[0] != self.never and each[0] <= self.room]
        return ready[:num_returns], []

    def get(self, reference):
        return reference[0]

    def kill(self, actor):
        pass


class FakeActor:
    def __init__(self, needs):
        self.__ray_call__ = SimpleNamespace(remote=lambda _ask: (needs["memory"], id(self)))
        self.work = SimpleNamespace(remote=lambda job: (needs["memory"], job.key))

    @classmethod
    def options(cls, **needs):
        return SimpleNamespace(remote=lambda _workers, _cores: cls(needs))


SIZES = (1, 7, 100)


def ran_on(memory, **how):
    """Jobs of three sizes on made-up actors: (size, memory of the actor) of each."""
    jobs = [make_job(seed=seed, budget=f"{shots}-shot") for seed in range(2) for shots in (1, 2, 3)]
    size = {job.key: SIZES[int(job.budget[0]) - 1] for job in jobs}

    def take(_node, fits):
        found = next((job for job in jobs if fits(job)), None)
        if found:
            jobs.remove(found)
        return found

    pool = RayPool(FakeRay(**how), None, [Need(1, 0, each) for each in memory], lambda job: size[job.key])
    return [(size[job.key], had) for job, had in pool.run(take)]


def test_jobs_go_to_actors_that_have_the_memory_and_the_rest_to_the_largest():
    """What is too large for any is tried on the largest, and may fail."""
    ended = ran_on([5, 8])
    assert sorted(size for size, _ in ended) == [1, 1, 7, 7, 100, 100]
    assert {had for size, had in ended if size > 5} == {8}
    assert 5 in {had for size, had in ended if size == 1}


def test_an_actor_that_never_starts_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("vitbench.engine.executors.ray.START_S", 0.5)
    ended = ran_on([5, 8], never=8)
    assert sorted(ended) == [(size, 5) for size in (1, 1, 7, 7, 100, 100)]


def test_an_actor_that_no_node_has_the_memory_for_is_asked_for_with_less(monkeypatch):
    """The node it was for is gone; the one that came instead has 6 where that had 8."""
    monkeypatch.setattr("vitbench.engine.executors.ray.LATE_S", 0.2)
    assert sorted(ran_on([8], room=6)) == [(size, 6) for size in (1, 1, 7, 7, 100, 100)]


def test_a_workers_memory_follows_the_backbone_and_what_is_done_with_it():
    needs = MemoryNeeds()
    probe = make_job(backbone="timm:vit_base_patch16_224", protocol="ridge_probe")
    tuned = make_job(backbone="timm:vit_base_patch16_224", protocol="finetune")
    assert needs(make_job()) == WORKER_BYTES
    assert needs(probe) - WORKER_BYTES == pytest.approx(2 * 4 * 85.8e6, rel=0.01)  # float32, twice
    assert needs(tuned) - WORKER_BYTES == pytest.approx(5 * 4 * 85.8e6, rel=0.01)


def test_workers_compile_and_wait_as_the_driver_was_told(monkeypatch, tmp_path):
    asked = {}
    cluster = SimpleNamespace(init=lambda **how: asked.update(how), shutdown=lambda: None)
    monkeypatch.setenv("VITBENCH_COMPILE", "on")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv(NICENESS, "0")
    with _joined(cluster, Workers("cpu", 1, tmp_path)):
        pass
    given = asked["runtime_env"]["env_vars"]
    assert given["VITBENCH_COMPILE"] == "on"
    assert given["GOMP_SPINCOUNT"] == "7"
    assert given["VITBENCH_CACHE"] == str(tmp_path)
