"""Faults that a second reader tried: damage, kills and misuse that must end in a word, or be made good."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from vitbench.backbones.models.archives import refuse_bomb
from vitbench.core.errors import UsageError, nearest
from vitbench.data.decode import decode
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.run import RunOptions, run_suite
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.store.heartbeat import HeartbeatWriter, was_abandoned
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.status import run_status
from vitbench.store.submission import check, pack

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def test_a_finished_trial_with_a_flipped_bit_is_done_again(tmp_path):
    shelf = Checkpoints(tmp_path)
    shelf.finish("trial-0", {"base_lr": 0.1}, {"value": 0.186, "images": [1, 2]})
    assert shelf.done("trial-0", {"base_lr": 0.1}) == {"value": 0.186, "images": [1, 2]}
    (path,) = tmp_path.glob("*.json")
    for place in range(len(path.read_bytes())):
        flipped(path, place)
        assert shelf.done("trial-0", {"base_lr": 0.1}) is None
        flipped(path, place)


@pytest.mark.parametrize("place", [0, 9, 25, 40, 70])
def test_features_whose_header_is_damaged_are_computed_again(tmp_path, place):
    store = FeatureCache(tmp_path)
    store.put("k", torch.arange(12.0).reshape(3, 4), {})
    assert FeatureCache(tmp_path).get("k") is not None
    (path,) = tmp_path.glob("*.npy")
    for bit in range(8):
        data = bytearray(path.read_bytes())
        data[place] ^= 1 << bit
        path.write_bytes(bytes(data))
        found = FeatureCache(tmp_path).get("k")
        assert found is None or torch.equal(found, torch.arange(12.0).reshape(3, 4))
        data[place] ^= 1 << bit
        path.write_bytes(bytes(data))
    path.write_bytes(b"")
    assert FeatureCache(tmp_path).get("k") is None


def test_a_checkpoint_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.randn(50, 50)}, path)
    refuse_bomb(path)
    flipped(path, path.stat().st_size // 2)
    with pytest.raises(UsageError, match=r"w\.pth is damaged: .*another checksum"):
        refuse_bomb(path)


def test_no_image_starts_a_program(tmp_path, monkeypatch):
    """Pillow reads EPS with Ghostscript."""
    fake, told = tmp_path / "gs", tmp_path / "started"
    fake.write_text(f"#!/bin/sh\ntouch {told}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "p.eps")
    with pytest.raises(ValueError, match="not an image"):
        decode((tmp_path / "p.eps").read_bytes(), exif_rotate=True)
    assert not told.exists()


def test_prune_touches_nothing_that_is_not_ours(tiny, tmp_path):
    project = tmp_path / "project"
    (project / "checkpoints").mkdir(parents=True)
    (project / "checkpoints" / "model.pt").write_text("precious")
    done = command("prune", tiny, "--out", project, "--yes")
    assert done.returncode == 2
    assert "no run directory" in done.stderr
    run_suite(str(tiny), project)
    (project / "logs" / "train.log").write_text("mine")
    assert command("prune", tiny, "--out", project, "--yes").returncode == 0
    assert (project / "checkpoints" / "model.pt").read_text() == "precious"
    assert (project / "logs" / "train.log").exists()


def test_lost_or_damaged_predictions_are_told_and_done_again(tiny, tmp_path):
    before = {r.key: r.predictions_sha256 for r in run_suite(str(tiny), tmp_path / "run").records}
    first, second, *_ = sorted((tmp_path / "run" / "predictions").glob("*.parquet"))
    flipped(first, 100)
    second.unlink()
    state = run_status(tmp_path / "run")
    assert len(state.damaged) == 2
    assert command("status", tmp_path / "run").returncode == 1
    assert run_suite(str(tiny), tmp_path / "run").ran == 2
    assert {r.key: r.predictions_sha256 for r in load(tmp_path / "run")} == before
    assert run_status(tmp_path / "run").damaged == ()


def test_a_merged_directory_is_a_run_directory(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "a", options=RunOptions(shard=(1, 2)))
    assert command("merge", tmp_path / "a", "-o", tmp_path / "m").returncode == 0
    said = command("status", tmp_path / "m")
    assert said.returncode == 0
    assert "4 jobs" in said.stdout


def test_predictions_that_differ_are_two_results(tiny, tmp_path):
    for name in "ab":
        run_suite(str(tiny), tmp_path / name)
    run = RunDir(tmp_path / "b")
    record = load(tmp_path / "b")[0]
    table = run.predictions(record)
    table["prediction"] = table["prediction"].to_numpy()[::-1]
    run.write(record, table)
    done = command("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "m")
    assert done.returncode == 2
    assert "two results of" in done.stderr


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
    arguments = [sys.executable, "-m", "vitbench", "run", str(path), "--out", str(tmp_path / "run")]
    codes = [
        subprocess.run([*arguments, "--plugin", str(tmp_path / "poison.py")], env=ENVIRONMENT, capture_output=True).returncode
        for _ in range(2)
    ]  # fmt: skip
    assert codes == [-signal.SIGKILL, 1]
    by_seed = {record.job.seed: record for record in load(tmp_path / "run")}
    assert {seed: record.status for seed, record in by_seed.items()} == {0: "ok", 1: "failed", 2: "ok"}
    assert "died twice" in by_seed[1].failure.message


@pytest.mark.slow
def test_nobody_trains_on_for_a_driver_that_was_killed(suite_file, tmp_path):
    plugin = tmp_path / "small_cnn.py"
    from tests.making.plugins import REPLICATED, SMALL_CNN

    plugin.write_text(SMALL_CNN)
    path = suite_file(REPLICATED.replace("steps: 6", "steps: 100000"))
    driver = subprocess.Popen(
        [sys.executable, "-m", "vitbench", "run", str(path), "--out", str(tmp_path / "run"), "--device", "cpu",
         "--plugin", str(plugin)],
        env={**ENVIRONMENT, "VITBENCH_CHECKPOINT_S": "0"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((tmp_path / "run" / "checkpoints").rglob("*.pt")) and time.monotonic() < until:
        time.sleep(0.1)
    below = psutil.Process(driver.pid).children(recursive=True)
    assert len(below) >= 3  # torchrun and two that train
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []


def test_an_address_where_nobody_listens_is_told_at_once(tiny, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = command(
        "run", tiny, "--out", tmp_path / "r", "--executor", "ray", "--address", f"127.0.0.1:{port}"
    )
    assert done.returncode == 2
    assert f"there is no Ray cluster at 127.0.0.1:{port}" in done.stderr
    alone = command("run", tiny, "--out", tmp_path / "r", "--address", "127.0.0.1:6379")
    assert alone.returncode == 2
    assert "--executor ray" in alone.stderr


def test_a_full_disk_is_said_with_what_to_do(tiny, tmp_path, monkeypatch):
    run_suite(str(tiny), tmp_path / "run")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vitbench.core.files.os.fsync", full)
    for verb in (("report", tmp_path / "run"), ("pack", tmp_path / "run", "-o", tmp_path / "s.zip")):
        done = command(*verb)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "free some space" in done.stderr
        assert "fault of vitbench" not in done.stderr


def test_a_damaged_submission_ends_in_a_word(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    pack(tmp_path / "run", tmp_path / "s.zip")
    data = (tmp_path / "s.zip").read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        harmed = bytearray(data)
        harmed[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        (tmp_path / "harmed.zip").write_bytes(bytes(harmed))
        try:
            found = check(tmp_path / "harmed.zip")
        except UsageError:
            continue
        assert len(found.records) <= 4
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("env.json", b"0" * 200_000_000)
    with pytest.raises(UsageError, match="would unpack to 200,000,000"):
        check(tmp_path / "bomb.zip")


WORDLESS = "class E(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise E"


@pytest.mark.parametrize("body", ["raise GeneratorExit", WORDLESS, "raise SystemExit(3)"])
def test_whatever_a_plugin_raises_is_a_warning(tiny, tmp_path, body):
    (tmp_path / "bad.py").write_text(body)
    done = command("run", tiny, "--out", tmp_path / "run", "--plugin", tmp_path / "bad.py")
    assert done.returncode == 0
    assert "warning: plugin bad" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugin_that_hangs_is_told_of_and_given_up(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.core.plugins.MESSAGE_AFTER_S", 0.2)
    monkeypatch.setattr("vitbench.core.plugins.STOP_AFTER_S", 1.0)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    done = command("run", tiny, "--out", tmp_path / "run", "--plugin", tmp_path / "slow.py")
    assert "has not ended in 1 s" in done.stderr


def test_near_names_are_found_among_many():
    sizes = ("tiny", "small", "base", "large")
    known = [
        f"vit_{size}_patch{n}_{px}" for size in sizes for n in range(8, 40) for px in range(100, 400, 20)
    ]
    assert nearest("vit_bsae_patch16_220", known)[0] == "vit_base_patch16_220"
    assert nearest("vit_base_pach16_220", known)[0] == "vit_base_patch16_220"
    assert nearest("nothing like it", known) == ()


def test_odd_files_beside_the_records_are_no_fault_of_ours(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    (tmp_path / "run" / "estimate.json").write_text('{"jobs": [{"key": "a", "seconds": NaN}]}')
    assert "nan" not in command("report", tmp_path / "run").stderr
    (tmp_path / "run" / "plan.json").write_text("[" * 200_000)
    said = command("status", tmp_path / "run")
    assert (said.returncode, "plan.json is damaged" in said.stderr) == (2, True)
    said = command("run", tiny, "--out", tmp_path / "x", "--shard", "1/" + "9" * 5000)
    assert (said.returncode, "I/N" in said.stderr) == (2, True)


def test_the_driver_of_the_quickstart_asks_for_at_most_a_thousand_workers(tiny, tmp_path):
    said = command("run", tiny, "--out", tmp_path / "x", "--workers", "1000000000")
    assert said.returncode == 2
    assert Path(tmp_path / "x").exists() is False
    assert vitbench.__version__
