"""Worker processes on this machine: the same records, shared work, and none that outlives its driver."""

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vitbench
from tests.making.command import process
from tests.making.jobs import make_job
from tests.making.plugins import FLAKY
from tests.making.records import essence
from tests.making.runs import ran, start_run, wait_for_records, wait_until
from vitbench.engine.queue import JobQueue
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


@pytest.mark.slow
def test_two_workers_give_what_one_gives(tiny, tmp_path):
    one, _ = ran(tiny, tmp_path / "one")
    two, _ = ran(tiny, tmp_path / "two", workers=2)
    assert essence(one.records) == essence(two.records)


def alive(held):
    """Whether the process that locked this file runs: the system lets go of its locks when it ends, however that happens."""
    with held.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.slow
@pytest.mark.parametrize("ending", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_no_worker_outlives_its_driver(slow, tmp_path, ending):
    suite, plugin = slow
    out, log = tmp_path / "run", tmp_path / "marker"
    process = start_run(suite, plugin, out, workers=2)
    wait_for_records(out, 2, process)
    workers = {int(line.split()[1]) for line in log.read_text().splitlines()}
    assert len(workers) == 2
    assert process.pid not in workers
    assert all(alive(Path(f"{log}.{pid}")) for pid in workers)
    process.send_signal(ending)
    said = process.communicate(timeout=60)
    assert process.returncode == (130 if ending == signal.SIGTERM else -signal.SIGKILL), said
    wait_until(lambda: not any(alive(Path(f"{log}.{pid}")) for pid in workers), 20)
    kept = vitbench.load_records(out)  # and nothing is lost of what was done
    result, titles = ran(suite, out, plugins=[str(plugin)])
    assert len(result.records) == 8
    assert len(titles) == 8 - len(kept)


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_runs_in_one_directory_share_the_work(slow, tmp_path):
    suite, plugin = slow
    out, log = tmp_path / "run", tmp_path / "marker"
    suite.write_text(suite.read_text().replace("seeds: [0,", "seeds: [8, 9, 10, 11, 12, 13, 14, 15, 0,"))
    ran(suite, out, plugins=[str(plugin)], workers=2, seeds=(0, 1))  # has the workers' server ready
    other = start_run(suite, plugin, out)
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


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_own_job_only(flaky, tmp_path):
    suite, plugin, _ = flaky
    plugin.write_text(
        FLAKY.replace(
            'raise RuntimeError("fixed later")', '__import__("os").kill(__import__("os").getpid(), 9)'
        )
    )
    result, titles = ran(suite, tmp_path / "run", plugins=[str(plugin)], workers=2)
    assert len(titles) == 3
    assert [record.status for record in result.records] == ["ok", "failed", "ok"]
    assert "worker process died" in result.records[1].failure.message


def test_a_job_of_several_processes_goes_to_no_single_worker(tmp_path):
    """Though another run held it when those were asked for first."""
    jobs = [make_job(seed=0), make_job(seed=1)]
    several = jobs[0].model_copy(
        update={
            "protocol": jobs[0].protocol.model_copy(update={"name": "finetune", "options": {"replicas": 4}})
        }
    )
    queue = JobQueue(RunDir(tmp_path), {}, [several, jobs[1]])
    held = RunDir(tmp_path).claim(several.key)
    assert queue.several.take() == "later"
    held.release()
    assert queue.single.take("node") == jobs[1]
    assert queue.single.take("node") is None
    assert queue.take() == several
    queue.release()


POISON = """\
import os, signal
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("poison")
@dataclass(frozen=True)
class Poison(Protocol):
    "Takes its process with it for one seed."

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        if data.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)
"""


@pytest.mark.slow
def test_a_job_that_kills_its_process_does_not_stop_the_suite_for_ever(suite_file, tmp_path):
    (tmp_path / "poison.py").write_text(POISON)
    path = suite_file(
        "name: p\nseeds: [0, 1, 2]\nbackbones: [{name: raw_pixels, size_px: 4}]\ntasks: [digits]\nprotocols: [poison]\n"
    )
    arguments = ("run", path, "--out", tmp_path / "run", "--plugin", tmp_path / "poison.py")
    codes = [process(*arguments).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 1]
    by_seed = {record.job.seed: record for record in load(tmp_path / "run")}
    assert {seed: record.status for seed, record in by_seed.items()} == {0: "ok", 1: "failed", 2: "ok"}
    assert "died twice" in by_seed[1].failure.message


STICKY = """\
import os
import time
from dataclasses import dataclass
import torch
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol

@register_protocol("sticky")
@dataclass(frozen=True)
class Sticky(Protocol):
    "Loses the GPU at one seed; the path of a log has `at:` before it, so that its content is not in the key."
    log: str = ""

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        until = time.monotonic() + 60
        while data.seed > 1 and "1 " not in open(self.log[3:]).read() and time.monotonic() < until:
            time.sleep(0.02)  # the faulty job comes before these, however late its worker starts
        with open(self.log[3:], "a") as log:
            log.write(f"{data.seed} {os.getpid()}\\n")
        if data.seed == 1:
            try:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            except RuntimeError as error:
                raise ValueError("training failed") from error
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_has_lost_its_gpu_takes_no_other_job(suite_file, tmp_path, workers):
    plugin, log = tmp_path / "sticky.py", tmp_path / "log"
    plugin.write_text(STICKY)
    path = suite_file(
        "name: s\nseeds: [0, 1, 2, 3, 4, 5]\nbackbones: [{name: raw_pixels, size_px: 4}]\ntasks: [digits]\nlimit: 30\n"
        f"protocols: [{{name: sticky, log: 'at:{log}'}}]\n"
    )
    result, _ = ran(path, tmp_path / "run", plugins=[str(plugin)], workers=workers)
    assert [record.status for record in result.records] == ["ok", "failed", *["ok"] * 4]
    assert result.records[1].failure.kind == "ValueError"
    seen = [line.split() for line in log.read_text().splitlines()]
    spoiled = next(pid for seed, pid in seen if seed == "1")
    assert len(seen) == 6
    after = seen[seen.index(["1", spoiled]) + 1 :]
    assert after
    assert spoiled not in {pid for _, pid in after}
