"""A run as a whole: done once, resumed, shared, narrowed, failing and interrupted."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import vitbench
from vitbench.core.errors import DataMissingError
from vitbench.engine.run import Overrides, Progress, RunOptions, plan_suite, run_planned, run_suite


class Events(Progress):
    """Remembers which jobs ended."""

    def __init__(self):
        self.titles = []

    def finished(self, record):
        self.titles.append(record.job.title)


def ran(suite, out, **how):
    events = Events()
    launch = RunOptions(
        **{k: how.pop(k) for k in ("workers", "force", "retry_failed", "fail_fast") if k in how}
    )
    return run_suite(str(suite), out, Overrides(**how), launch, events), events.titles


def test_what_is_done_is_not_done_again(tiny, tmp_path):
    out = tmp_path / "run"
    first, titles = ran(tiny, out)
    assert (len(titles), first.ran, first.failed) == (4, 4, 0)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    again, titles = ran(tiny, out)
    assert (titles, again.ran) == ([], 0)
    assert again.records == first.records
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    forced, titles = ran(tiny, out, force=True)
    assert len(titles) == forced.ran == 4


def test_a_changed_suite_runs_only_what_changed(tiny, tmp_path):
    out = tmp_path / "run"
    ran(tiny, out)
    tiny.write_text(tiny.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    _, titles = ran(tiny, out)
    assert titles == ["raw_pixels · digits · ridge_probe · 2-shot · seed 2"]


def test_a_new_label_relabels_without_running(tiny, tmp_path):
    out = tmp_path / "run"
    ran(tiny, out)
    tiny.write_text(tiny.read_text().replace("{name: raw_pixels,", "{name: raw_pixels, label: Pixels,"))
    result, titles = ran(tiny, out)
    assert titles == []
    assert {r.job.backbone.label for r in vitbench.load_records(out)} == {"Pixels"}
    assert result.failed == 0


def test_the_run_directory_holds_what_was_asked_and_what_came_out(tiny, tmp_path):
    out = tmp_path / "run"
    result, _ = ran(tiny, out)
    lock = yaml.safe_load((out / "suite.lock.yaml").read_text())
    assert lock["backbones"] == [{"name": "raw_pixels", "label": "raw_pixels", "size_px": 8}]
    assert json.loads((out / "env.json").read_text())["packages"]["torch"]
    for record in result.records:
        table = pd.read_parquet(out / "predictions" / f"{record.key}.parquet")
        assert (table["label"] == table["prediction"]).mean() == pytest.approx(record.metrics["top1"].value)
        assert table["name"][0].startswith("digits[")


PLUGIN = """\
from dataclasses import dataclass
from pathlib import Path
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("flaky")
@dataclass(frozen=True)
class Flaky(Protocol):
    "Fails while a file is there."
    marker: str = ""

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        if data.seed == 1 and __import__("os").path.exists(self.marker):
            raise RuntimeError("mended later")
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)
"""


@pytest.fixture
def flaky(tmp_path, suite_file):
    plugin, marker = tmp_path / "flaky.py", tmp_path / "marker"
    plugin.write_text(PLUGIN)
    marker.touch()
    suite = suite_file(
        f"name: f\nseeds: [0, 1, 2]\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [{{name: flaky, marker: {marker}}}]\n"
    )
    return suite, plugin, marker


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_job_is_kept_and_retried_only_when_asked(flaky, tmp_path, workers):
    suite, plugin, marker = flaky
    how = {"plugins": [str(plugin)], "workers": workers}
    result, titles = ran(suite, tmp_path / "run", **how)
    assert (len(titles), result.failed) == (3, 1)
    failure = next(r.failure for r in result.records if r.failure)
    assert (failure.kind, failure.message) == ("RuntimeError", "mended later")
    assert failure.where.startswith("flaky.py:")
    marker.unlink()
    assert ran(suite, tmp_path / "run", **how)[1] == []
    result, titles = ran(suite, tmp_path / "run", **how, retry_failed=True)
    assert titles == ["raw_pixels · digits · flaky · full · seed 1"]
    assert result.failed == 0


def test_fail_fast_stops_there(flaky, tmp_path):
    suite, plugin, _ = flaky
    result, titles = ran(suite, tmp_path / "run", plugins=[str(plugin)], fail_fast=True)
    assert len(titles) == len(result.records) == 2


def test_two_workers_give_what_one_gives(tiny, tmp_path):
    def essence(result):
        return [
            record.model_copy(update={"cost": None, "created": "", "env": result.records[0].env})
            for record in result.records
        ]

    one, _ = ran(tiny, tmp_path / "one")
    two, _ = ran(tiny, tmp_path / "two", workers=2)
    assert essence(one) == [r.model_copy(update={"env": one.records[0].env}) for r in essence(two)]


def test_missing_data_stops_everything_before_it_starts(suite_file, tmp_path):
    (tmp_path / "empty").mkdir()
    suite = suite_file(
        "name: m\nbackbones: [raw_pixels]\ntasks: [digits, {name: a, source: folder, path: empty}]\nprotocols: [knn]\n"
    )
    with pytest.raises(DataMissingError, match=r"task 'a': there is no folder .*empty/train"):
        run_suite(str(suite), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_another_run_finished_meanwhile_is_taken_over(tiny, tmp_path):
    out = tmp_path / "run"
    planned = plan_suite(str(tiny), out, Overrides())  # sees an empty directory
    ran(tiny, out)
    events = Events()
    result = run_planned(planned, progress=events)
    assert len(result.records) == 4
    assert len(events.titles) == 4
    assert {r.created for r in result.records} == {r.created for r in vitbench.load_records(out)}


SLOW = PLUGIN.replace(
    'if data.seed == 1 and __import__("os").path.exists(self.marker):\n            raise RuntimeError("mended later")',
    """import fcntl, os, time
        global held  # as long as the process runs
        if "held" not in globals():
            held = os.open(f"{self.marker}.{os.getpid()}", os.O_CREAT | os.O_RDWR)
            fcntl.flock(held, fcntl.LOCK_EX)
        with open(self.marker, "a") as log:  # short lines are appended whole
            log.write(f"{data.seed} {os.getpid()}\\n")
        time.sleep(0.4)""",
)


def start(suite, plugin, out, workers=1):
    command = [
        sys.executable,
        "-m",
        "vitbench",
        "run",
        str(suite),
        "--plugin",
        str(plugin),
        "--out",
        str(out),
        "--workers",
        str(workers),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def wait_for_records(out, count, process):
    until = time.monotonic() + 60
    while len(list(out.glob("records/*.json"))) < count:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture
def slow(flaky):
    suite, plugin, _ = flaky
    plugin.write_text(SLOW)
    suite.write_text(suite.read_text().replace("seeds: [0, 1, 2]", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]"))
    return suite, plugin


def test_an_interrupt_keeps_what_is_done(slow, tmp_path):
    suite, plugin = slow
    out = tmp_path / "run"
    process = start(suite, plugin, out)
    wait_for_records(out, 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 8 jobs are done and kept" in errors
    assert "Traceback" not in errors
    kept = {record.key: record for record in vitbench.load_records(out)}
    assert 2 <= len(kept) < 8
    assert ran(suite, out, plugins=[str(plugin)])[0].failed == 0
    after = {record.key: record for record in vitbench.load_records(out)}
    assert len(after) == 8
    assert all(after[key] == record for key, record in kept.items())


def alive(held):
    """Whether the process that locked this file runs: the system lets go of its locks when it ends, however that happens."""
    with held.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_driver(slow, tmp_path, ending):
    suite, plugin = slow
    out, log = tmp_path / "run", tmp_path / "marker"
    process = start(suite, plugin, out, workers=2)
    wait_for_records(out, 2, process)
    workers = {int(line.split()[1]) for line in log.read_text().splitlines()}
    assert len(workers) == 2
    assert process.pid not in workers
    assert all(alive(Path(f"{log}.{pid}")) for pid in workers)
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode == (130 if ending == signal.SIGTERM else -signal.SIGKILL)
    until = time.monotonic() + 20
    while any(alive(Path(f"{log}.{pid}")) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.1)
    kept = vitbench.load_records(out)  # and nothing is lost of what was done
    result, titles = ran(suite, out, plugins=[str(plugin)])
    assert len(result.records) == 8
    assert len(titles) == 8 - len(kept)


def test_an_interrupt_while_workers_start_is_quiet(slow, tmp_path):
    suite, plugin = slow
    process = start(suite, plugin, tmp_path / "run", workers=2)
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "suite.lock.yaml").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_workers_run_the_code_of_their_driver(slow, tmp_path, monkeypatch):
    suite, plugin = slow
    for name in ("timm", "vitbench"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text("raise ValueError('the wrong one')\n")
    monkeypatch.chdir(tmp_path / "here")
    suite.write_text(suite.read_text().replace("seeds: [0, 1, 2, 3, 4, 5, 6, 7]", "seeds: [0, 1]"))
    vitbench_command = Path(sys.executable).parent / "vitbench"
    done = subprocess.run(
        [vitbench_command, "run", suite, "--plugin", plugin, "--out", tmp_path / "run", "--workers", "2"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrong") == 0


def test_two_runs_in_one_directory_share_the_work(slow, tmp_path):
    suite, plugin = slow
    out, log = tmp_path / "run", tmp_path / "marker"
    suite.write_text(suite.read_text().replace("seeds: [0,", "seeds: [8, 9, 10, 11, 12, 13, 14, 15, 0,"))
    ran(suite, out, plugins=[str(plugin)], workers=2, seeds=(0, 1))  # has the workers' server ready
    other = start(suite, plugin, out)
    wait_for_records(out, 3, other)
    here, _ = ran(suite, out, plugins=[str(plugin)], workers=2)
    _, errors = other.communicate(timeout=60)
    assert (other.returncode, here.failed) == (0, 0), errors
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(seed) for seed, _ in lines) == list(
        range(16)
    )  # nobody did what another one had claimed
    assert str(other.pid) in {pid for _, pid in lines}
    assert len({pid for _, pid in lines}) >= 4
    assert {record.key: record for record in here.records} == {
        record.key: record for record in vitbench.load_records(out)
    }
    assert not list(out.rglob("*.tmp"))


def test_a_worker_that_dies_fails_its_own_job_only(flaky, tmp_path):
    suite, plugin, _ = flaky
    plugin.write_text(
        PLUGIN.replace(
            'raise RuntimeError("mended later")', '__import__("os").kill(__import__("os").getpid(), 9)'
        )
    )
    result, titles = ran(suite, tmp_path / "run", plugins=[str(plugin)], workers=2)
    assert len(titles) == 3
    assert [record.status for record in result.records] == ["ok", "failed", "ok"]
    assert "worker process died" in result.records[1].failure.message
