"""Seconds per phase: nested phases are counted once."""

import time

import pytest

from vitbench.compute.meter import Meter


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
