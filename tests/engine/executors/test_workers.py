"""Which worker has what: a GPU of its own, or a share of the cores."""

from pathlib import Path

import pytest
import torch

from vitbench.engine.executors import local
from vitbench.engine.executors.workers import Workers


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_gpus")
def test_every_gpu_has_a_worker_that_owns_it():
    workers = Workers.choose("auto", None, Path("cache"))
    assert (workers.device, workers.count) == ("cuda", 4)
    assert [workers.worker(worker).device for worker in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]


@pytest.mark.usefixtures("four_gpus")
def test_one_that_is_named_is_the_only_one():
    workers = Workers.choose("cuda:2", 1, Path("cache"))
    assert workers.worker(0).device == "cuda:2"


@pytest.mark.parametrize(("own", "expected"), [("", 5), ("2", 2), ("8", 5)])
def test_workers_on_a_cpu_share_its_cores_and_keep_to_the_users_threads(monkeypatch, tmp_path, own, expected):
    given = []
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    monkeypatch.setattr(local, "cores", lambda: 16)
    monkeypatch.setattr(local, "ProcessPoolExecutor", lambda *arguments: given.append(arguments) or Pool())
    assert Workers.choose("cpu", None, tmp_path).count == 1
    with local._pool(Workers.choose("cpu", 3, tmp_path), 3):
        pass
    (count, _, _, (_, threads, *_)) = given[0]
    assert (count, threads) == (3, expected)


class Pool:
    """Starts nothing."""

    _processes = None

    def shutdown(self, **_how):
        pass
