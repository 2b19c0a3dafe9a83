"""What a record states beside its score: mistakes, the most confident of them, the conformance list, a GPU's energy."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from tests.making.jobs import make_job
from vitbench.api import ScoreRule
from vitbench.compute import energy
from vitbench.data.arrays import array_split
from vitbench.engine.job import run_job
from vitbench.engine.scoring import confusion, score, worst
from vitbench.engine.worker import Worker

RNG = np.random.default_rng(0)


def test_counts_of_few_classes_are_scikit_learns():
    labels, said = RNG.integers(5, size=(2, 300))
    found = confusion(said, labels, tuple("abcde"))
    assert found.classes == tuple("abcde")
    assert (np.array(found.matrix) == confusion_matrix(labels, said, labels=range(5))).all()
    assert found.mistakes == ()


def test_of_many_classes_the_most_frequent_mistakes_are_kept():
    names = tuple(f"class {i}" for i in range(100))
    labels = RNG.integers(100, size=5000)
    said = np.where(RNG.random(5000) < 0.5, labels, RNG.integers(100, size=5000))
    said[labels == 7] = 9
    found = confusion(said, labels, names)
    counts = confusion_matrix(labels, said, labels=range(100))
    np.fill_diagonal(counts, 0)
    assert found.mistakes[0] == ("class 7", "class 9", int((labels == 7).sum()))
    assert [n for _, _, n in found.mistakes] == np.sort(counts.ravel())[::-1][:20].tolist()
    assert confusion(labels, labels, names).mistakes == ()


def test_the_most_confident_errors_come_first_and_right_answers_never():
    margins = np.array([5.0, 3.0, 9.0, 3.0, -1.0], dtype=np.float32)
    assert worst(margins, np.array([True, True, False, True, False])) == (0, 1, 3)
    assert len(worst(RNG.random(100).astype(np.float32), np.ones(100, bool))) == 24


def test_a_job_keeps_its_mistakes(tmp_path):
    outcome = run_job(make_job(protocol="ridge_probe"), Worker("cpu", tmp_path))
    record, table = outcome.record, outcome.predictions
    matrix = np.array(record.confusion.matrix)
    assert matrix.sum() == len(table)
    assert np.trace(matrix) / len(table) == pytest.approx(record.metrics["top1"].value)
    wrong = np.flatnonzero(table["prediction"] != table["label"])
    assert set(record.worst) <= set(wrong.tolist())
    assert len(record.worst) == min(24, len(wrong))


def test_energy_is_nvmls_counter_of_the_gpu_that_torch_means(monkeypatch):
    counters = {"GPU-one": 5_000_000, "GPU-two": 7_000_000}
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: counters[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="two"))
    energy._handle.cache_clear()
    assert energy.joules_so_far("cuda:0") == 7000
    counters["GPU-two"] += 250_000
    assert energy.joules_so_far("cuda:0") == 7250
    energy._handle.cache_clear()
    assert energy.joules_so_far("cpu") is None


def test_without_a_counter_there_is_no_energy(monkeypatch):
    energy._handle.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.joules_so_far("cuda:0") is None


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (417, 1000), (1, 3)])
def test_the_interval_is_scipys_wilson(hits, n):
    labels = np.zeros(n, int)
    split = array_split(np.zeros((n, 1, 1, 3), np.uint8), labels, "x")
    predictions = np.where(np.arange(n) < hits, 0, 1)
    rule = ScoreRule("top1", lambda p, s: (p == s.labels).astype(float))
    found = score(rule, predictions, split)
    wanted = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((hits / n, wanted.low, wanted.high))


def test_examples_that_do_not_count_leave_the_denominator():
    split = array_split(np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4, int), "x")
    rule = ScoreRule("real", lambda p, s: np.array([1.0, np.nan, 0.0, np.nan]))
    assert score(rule, np.zeros(4, int), split).n == 2
