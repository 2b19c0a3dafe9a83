"""Heartbeats: of processes that are gone, and files that only look like one."""

import json
import os
import subprocess
import sys

from vitbench.engine.run import run_suite
from vitbench.store.heartbeat import HeartbeatWriter, read_all, was_abandoned
from vitbench.store.run_dir import RunDir
from vitbench.store.status import run_status


def test_a_dead_process_is_not_at_work(tiny, tmp_path):
    result = run_suite(str(tiny), tmp_path / "run")
    key = result.records[0].key
    RunDir(tmp_path / "run").record_path(key).unlink()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    writer = HeartbeatWriter(tmp_path / "run" / ".running", key, "x", "cpu")
    writer.update("adapt")
    assert [heartbeat.key for heartbeat in run_status(tmp_path / "run").working] == [key]
    path = tmp_path / "run" / ".running" / f"{key}.json"
    path.write_text(path.read_text().replace(f'"pid":{os.getpid()}', f'"pid":{gone.pid}'))
    state = run_status(tmp_path / "run")
    assert [heartbeat.key for heartbeat in state.silent] == [key]
    assert state.working == ()
    assert was_abandoned(tmp_path / "run" / ".running", key)
    assert not was_abandoned(tmp_path / "run" / ".running", "0" * 24)


def test_a_heartbeat_names_no_file_but_its_own(tmp_path):
    HeartbeatWriter(tmp_path, "0" * 24, "a job", "cpu").update("test")
    assert [heartbeat.title for heartbeat in read_all(tmp_path)] == ["a job"]
    (file,) = tmp_path.glob("*.json")
    facts = json.loads(file.read_text())
    for name, key in (("1" * 24, "0" * 24), ("x", "../../elsewhere")):
        (tmp_path / f"{name}.json").write_text(json.dumps({**facts, "key": key}))
    assert len(list(read_all(tmp_path))) == 1
