"""The progress shown on a terminal while a suite runs, and silence elsewhere."""

import io
import sys
import time

import pytest

from vitbench.cli import progress
from vitbench.cli.progress import TerminalProgress
from vitbench.core.record import Failure
from vitbench.engine.run import Overrides, plan_suite
from vitbench.store.heartbeat import HeartbeatWriter


class Terminal(io.StringIO):
    """Keeps all that was drawn."""

    def isatty(self):
        return True


@pytest.fixture
def half_done(tiny, tiny_records, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    by_key = {record.key: record for record in tiny_records}
    planned = plan_suite(str(tiny), tmp_path / "run", Overrides())
    return planned, [by_key[job.key] for job in planned.suite.jobs]


def test_a_line_for_the_suite_and_one_for_each_running_job(half_done, monkeypatch):
    planned, records = half_done
    records[3] = records[3].model_copy(update={"failure": Failure(kind="X", message="no \x1b[31m")})
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = TerminalProgress()
    jobs = planned.suite.jobs
    shown.begin(planned.run, jobs, records[:2], 1)
    writer = HeartbeatWriter(planned.run.path / ".running", jobs[2].key, jobs[2].title, "cpu")
    writer.update("features", 12, 60)
    until = time.monotonic() + 20
    while "12/60" not in sys.stderr.getvalue() or " left" not in sys.stderr.getvalue():
        assert time.monotonic() < until
        time.sleep(0.05)
    shown.finished(records[2])
    shown.finished(records[3])
    shown.end()
    drawn = sys.stderr.getvalue()
    assert "2/4 jobs" in drawn
    assert f"{jobs[2].title} · features 12/60" in drawn
    assert "1 running" in drawn
    assert f"failed: {records[3].job.title}: no  [31m" in drawn
    assert "4/4 jobs" in drawn.rpartition("\r")[2]
    assert "1 failed" in drawn.rpartition("\r")[2]


def test_nothing_is_drawn_unless_stderr_is_a_terminal(half_done, capsys):
    planned, records = half_done
    shown = TerminalProgress()
    shown.begin(planned.run, planned.suite.jobs, records[:2], 1)
    shown.finished(records[2])
    shown.end()
    assert capsys.readouterr() == ("", "")
