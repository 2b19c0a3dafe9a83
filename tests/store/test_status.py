"""What `vitbench status` says of a run: done, at work, silent, failed, damaged."""

import json

import pytest

from tests.making.command import vitbench as command
from tests.making.damage import flip
from vitbench.core.errors import UsageError
from vitbench.engine.run import Overrides, RunOptions, plan_suite, run_planned, run_suite
from vitbench.store.heartbeat import HeartbeatWriter
from vitbench.store.record_file import load
from vitbench.store.status import run_status


def test_status_says_what_is_done_at_work_silent_failed_and_damaged(tiny, tmp_path):
    out = tmp_path / "run"
    planned = plan_suite(str(tiny), out, Overrides())
    run_planned(planned, RunOptions(shard=(1, 2)))
    mine = {job.key for job in planned.jobs(RunOptions(shard=(1, 2)))}
    working, silent = (job for job in planned.suite.jobs if job.key not in mine)
    lock = planned.run.claim(working.key)
    for job in (working, silent):
        HeartbeatWriter(out / ".running", job.key, job.title, "cpu").update("features", 3, 9)
    path = out / ".running" / f"{silent.key}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seen_s": 1.0}))
    state = run_status(out)
    assert (state.asked, state.done, state.waiting) == (4, 2, 1)
    assert [heartbeat.key for heartbeat in state.working] == [working.key]
    assert [heartbeat.key for heartbeat in state.silent] == [silent.key]
    assert state.left_s > 0
    shown = command("status", str(out))
    assert shown.returncode == 0
    assert f"{working.title}: features 3/9" in shown.stdout
    lock.release()
    damaged = planned.run.record_path(min(mine))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    shown = command("status", str(out), "--json")
    assert shown.returncode == 1
    assert damaged.name in json.loads(shown.stdout)["damaged"][0]


def test_a_directory_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a run directory"):
        run_status(tmp_path)


def test_lost_or_damaged_predictions_are_reported_and_recomputed(tiny, tmp_path):
    before = {r.key: r.predictions_sha256 for r in run_suite(str(tiny), tmp_path / "run").records}
    first, second, *_ = sorted((tmp_path / "run" / "predictions").glob("*.parquet"))
    flip(first, 100)
    second.unlink()
    state = run_status(tmp_path / "run")
    assert len(state.damaged) == 2
    assert command("status", tmp_path / "run").returncode == 1
    assert run_suite(str(tiny), tmp_path / "run").ran == 2
    assert {r.key: r.predictions_sha256 for r in load(tmp_path / "run")} == before
    assert run_status(tmp_path / "run").damaged == ()
