"""Ctrl-C and SIGTERM: what is done is kept, and no traceback is shown."""

import os
import signal

import pytest

import vitbench
from tests.making.command import started
from tests.making.runs import ran, start_run, wait_for_records, wait_until


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_done(slow, tmp_path):
    suite, plugin = slow
    out = tmp_path / "run"
    process = start_run(suite, plugin, out)
    wait_for_records(out, 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 8 jobs are done and saved" in errors
    assert "Traceback" not in errors
    kept = {record.key: record for record in vitbench.load_records(out)}
    assert 2 <= len(kept) < 8
    assert ran(suite, out, plugins=[str(plugin)])[0].failed == 0
    after = {record.key: record for record in vitbench.load_records(out)}
    assert len(after) == 8
    assert all(after[key] == record for key, record in kept.items())


@pytest.mark.slow
def test_an_interrupt_while_workers_start_is_quiet(slow, tmp_path):
    suite, plugin = slow
    process = start_run(suite, plugin, tmp_path / "run", workers=2)
    wait_until((tmp_path / "run" / "suite.lock.yaml").exists)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_sigterm_while_it_plans_is_an_interrupt(tiny, tmp_path):
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'planning')!r}).touch()\ntime.sleep(60)\n"
    )
    run = started("run", tiny, "--plugin", tmp_path / "slow.py", "--out", tmp_path / "run")
    wait_until((tmp_path / "planning").exists)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, "Traceback" in said) == (130, False)
