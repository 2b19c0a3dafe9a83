"""Seconds, energy and peak memory per phase: nested phases are counted once, and what is not part of the cost apart."""

import sys
import threading
import time

import numpy as np
import pytest
import torch

from vitbench.compute import energy, memory, meter
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.meter import Meter, Span, credit, outside, so_far, start_peak

GIB = 2**30


def test_nested_phases_are_excluded_from_the_outer_one():
    meter = Meter("cpu")
    start = time.perf_counter()
    with meter.phase("adapt"):
        time.sleep(0.02)
        for _ in range(2):
            with meter.phase("features"):
                time.sleep(0.03)
    elapsed = time.perf_counter() - start
    assert meter.seconds["features"] >= 0.06
    assert 0.02 <= meter.seconds["adapt"] < 0.06
    assert sum(meter.seconds.values()) == pytest.approx(elapsed, abs=0.01)


def test_a_failing_phase_is_still_timed():
    meter = Meter("cpu")
    with pytest.raises(ZeroDivisionError), meter.phase("adapt"), meter.phase("features"):
        _ = 1 / 0
    with meter.phase("test"):
        pass
    assert set(meter.seconds) == {"adapt", "features", "test"}
    assert all(seconds >= 0 for seconds in meter.seconds.values())


def test_what_is_outside_the_cost_is_said_where_it_happens_and_in_its_own_thread_only():
    measured = Meter("cpu")

    def wait():
        with outside("images", waits=False):
            time.sleep(0.02)

    with measured.phase("adapt"):
        wait()
        other = threading.Thread(target=wait)
        other.start()
        other.join()
    with outside("images"):  # no job is being measured
        pass
    assert 0.02 <= measured.seconds["images"] < 0.04
    assert 0.02 <= measured.seconds["adapt"] < 0.04


def test_core_seconds_are_those_of_all_threads_and_sleep_is_none():
    measured = Meter("cpu")
    with measured.phase("adapt"):
        time.sleep(0.05)
    with measured.phase("test"):
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
    assert measured.phases["adapt"].core_seconds < 0.02
    assert measured.phases["test"].core_seconds >= 0.05


def test_an_earlier_attempt_counts_in_the_phase_that_goes_on():
    measured = Meter("cpu")
    with measured.phase("adapt"):
        begun = so_far()
        credit(Span(3.0, 4.0, None))
        with outside("checkpoints"):
            time.sleep(0.01)
        assert 3.0 <= so_far().since(begun).seconds < 3.01
    assert 3.0 <= measured.seconds["adapt"] < 3.01
    assert measured.phases["adapt"].joules is None
    credit(Span(9.0))  # no job is being measured
    assert so_far() == Span()


class Gpu:
    """The counters of a GPU, and a forward pass that takes `per_image` bytes."""

    def __init__(self, monkeypatch):
        self.now = self.most = self.joules = 0
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: self.most)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", self.reset)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _device: type("P", (), {"total_memory": 80 * GIB})
        )
        monkeypatch.setattr(meter, "joules_so_far", lambda _device: self.joules)
        zeros = torch.zeros
        monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))

    def reset(self, _device):
        self.most = self.now

    def take(self, size_bytes):
        self.now += size_bytes
        self.most = max(self.most, self.now)
        self.now -= size_bytes


def test_the_peak_is_the_highest_of_the_job_with_a_batch_size_found_in_its_middle(monkeypatch, tmp_path):
    gpu = Gpu(monkeypatch)
    gpu.take(70 * GIB)  # the job before
    measured = Meter("cuda:0")
    gpu.now = 3 * GIB  # weights held for other jobs
    measured.others_bytes = 3 * GIB
    with measured.phase("build"):
        gpu.take(60 * GIB)
    with measured.phase("adapt"):
        gpu.take(40 * GIB)
        with measured.phase("features") as features:
            BatchSize("cuda:0", 8, {}, tmp_path).measure(lambda images: gpu.take(len(images) * GIB // 10))
            gpu.take(2 * GIB)
    with measured.phase("test"):
        gpu.take(GIB)
    assert features.peak_bytes == 2 * GIB
    assert measured.phases["test"].peak_bytes == GIB
    assert measured.peak_memory_bytes() == 40 * GIB


def test_whoever_measures_a_peak_of_its_own_does_not_lose_the_jobs(monkeypatch):
    gpu = Gpu(monkeypatch)
    measured = Meter("cuda:0")
    with measured.phase("adapt"):
        gpu.take(40 * GIB)
        start_peak("cuda:0")
        assert memory.peak_bytes("cuda:0") == 0
        gpu.take(GIB)
    assert measured.peak_memory_bytes() == 40 * GIB


def test_energy_goes_to_the_phase_that_used_it(monkeypatch):
    gpu = Gpu(monkeypatch)
    gpu.joules = 10**6  # since the driver was loaded
    measured = Meter("cuda:0")
    with measured.phase("adapt"):
        gpu.joules += 5
        with outside("warm-up"):
            gpu.joules += 100
        gpu.joules += 2
        with outside("images", waits=False):
            gpu.joules += 1  # not read here: the GPU may still be at work for the phase
    assert measured.phases["adapt"].joules == 8
    assert measured.phases["warm-up"].joules == 100


def test_energy_without_a_counter_is_unknown_not_zero(monkeypatch):
    Gpu(monkeypatch)
    monkeypatch.setattr(meter, "joules_so_far", energy.joules_so_far)
    measured = Meter("cuda:0")
    with measured.phase("adapt"):
        pass
    assert measured.phases["adapt"].joules is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_on_a_cpu_the_peak_of_one_job_is_not_that_of_the_next():
    peaks = []
    for count in (200 * 2**20, 1):
        measured = Meter("cpu")
        with measured.phase("adapt"):
            taken = np.ones(count, dtype=np.uint8)
            assert taken[-1] == 1
            del taken
        peaks.append(measured.peak_memory_bytes())
    assert peaks[0] - peaks[1] > 150 * 2**20
    assert memory.peak_bytes("cpu") > 0
