"""The same job gives the same record: again, on one worker or two, from a cold cache or a warm one, in whatever order."""

import os

import pytest

from tests.making.records import essence
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.store.record_file import load


@pytest.mark.slow
def test_the_quickstart_is_the_same_however_it_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = Overrides(tasks=("digits",), limit=40, seeds=(0, 1))

    def ran(name, cache, *launches):
        monkeypatch.setitem(os.environ, "VITBENCH_CACHE", str(tmp_path / cache))
        for options in launches:
            assert run_suite("quickstart", tmp_path / name, overrides, options).failed == 0
        return {record.key: record for record in essence(load(tmp_path / name))}

    first = ran("first", "cache", RunOptions())
    assert len(first) > 30
    assert all(record.predictions_sha256 for record in first.values())
    assert ran("warm", "cache", RunOptions(workers=2)) == first
    assert ran("backwards", "cold", RunOptions(shard=(2, 2)), RunOptions(shard=(1, 2))) == first
