"""`vitbench retry` runs the failed jobs of a directory."""

import vitbench
from tests.making.command import vitbench as command
from tests.making.records import as_failed
from vitbench.store.run_dir import RunDir


def test_retry_runs_what_failed(tiny, tmp_path):
    out = tmp_path / "run"
    records = vitbench.run(tiny, out)
    failed = as_failed(records[0])
    RunDir(out).write(failed)
    assert command("status", str(out)).returncode == 1
    assert command("retry", str(out)).returncode == 0
    assert command("status", str(out)).returncode == 0
    assert [r.metrics for r in vitbench.run(tiny, out)] == [r.metrics for r in records]
