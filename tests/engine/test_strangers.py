"""What strangers' files, errors of any kind and runs beside it may do to a run: nothing but what a message says."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.making.command import vitbench as command
from tests.making.jobs import make_job
from vitbench.core.errors import UsageError
from vitbench.core.files import read_file
from vitbench.core.settings import number_from
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.outcome import failed
from vitbench.engine.plan import relabelled
from vitbench.engine.queue import JobQueue
from vitbench.engine.run import Overrides, RunOptions, plan_suite, run_suite
from vitbench.store.heartbeat import HeartbeatWriter, read_all
from vitbench.store.merge import merge
from vitbench.store.predictions import read_predictions
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


def test_features_of_another_kind_of_number_are_computed_again(tmp_path):
    FeatureCache(tmp_path).put("k", torch.arange(12.0).reshape(3, 4), {})
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'<i4'"))
    assert FeatureCache(tmp_path).get("k") is None


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ({"label": np.zeros(3_000_000, np.int64)}, 10, "3,000,000 predictions for 10 test examples"),
        ({f"c{i}": np.zeros(3_000_000) for i in range(30)}, 3_000_000, "are no predictions"),
        (
            {"name": pa.DictionaryArray.from_arrays(np.zeros(5000, np.int32), ["x" * 10**6])},
            5000,
            "would take more memory",
        ),
        ({"label": [[1, 2]]}, 1, "no type that predictions have"),
    ],
    ids=["rows", "columns", "texts", "nested"],
)
def test_tables_that_unpack_to_gigabytes_are_refused(columns, rows, said):
    data = parquet(**columns)
    assert len(data) < 2_000_000
    with pytest.raises(ValueError, match=said):
        read_predictions(data, rows)


def test_predictions_are_read_as_pandas_reads_them():
    table = pd.DataFrame({"name": ["a", "b", "a"], "label": [1, 2, 3], "top1_correct": [1.0, 0.0, None]})
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    pd.testing.assert_frame_equal(read_predictions(buffer.getvalue(), 3), pd.read_parquet(buffer))
    with pytest.raises(ValueError, match="cannot be read"):
        read_predictions(b"PAR1", 3)


ODD = """\
import torch
from vitbench import register_backbone
from vitbench.api import InputSpec

class Own(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")

@register_backbone("odd")
class Odd(torch.nn.Module):
    "Fails in a way of its own."
    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 4

    def features(self, images):
        raise {error}
"""


@pytest.mark.parametrize(
    ("error", "said", "workers"),
    [
        ("Mute()", "(its message cannot be shown)", 1),
        ("Own('gone')", "gone", 1),
        ("Own('gone')", "gone", 2),
        ("GeneratorExit('left')", "left", 1),
    ],
)
def test_an_error_of_any_kind_is_its_jobs_alone(suite_file, tmp_path, error, said, workers):
    plugin = tmp_path / "odd.py"
    plugin.write_text(ODD.replace("{error}", error))
    suite = suite_file(
        "name: odd\nlimit: 20\nbackbones: [odd, raw_pixels]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    launch = RunOptions(device="cpu", workers=workers)
    result = run_suite(str(suite), tmp_path / "run", Overrides(plugins=[str(plugin)]), launch)
    messages = {record.job.backbone.name: record.failure for record in result.records}
    assert messages["odd"].message == said
    assert messages["raw_pixels"] is None


def test_a_name_that_is_no_utf8_fits_into_a_record():
    record = failed(make_job(), "cpu", OSError("caf\udce9.jpg"))
    assert record.failure.message == r"caf\udce9.jpg"
    assert record.model_dump_json()


def test_a_log_that_cannot_be_written_costs_nothing(tiny, tmp_path):
    for job in plan_suite(str(tiny), None, Overrides()).suite.jobs:
        (tmp_path / "run" / "logs" / f"{job.key}.log").mkdir(parents=True)
    assert run_suite(str(tiny), tmp_path / "run").failed == 0


def test_pipes_and_devices_are_not_waited_for(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    os.mkfifo(tmp_path / "run" / "records" / "zzz.json")
    (tmp_path / "run" / ".running").mkdir(exist_ok=True)
    (tmp_path / "run" / ".running" / "zz.json").symlink_to("/dev/zero")
    said = command("status", tmp_path / "run")
    assert "zzz.json" in said.stdout
    assert "4 done" in said.stdout
    assert "zzz.json" in command("report", tmp_path / "run", "-o", tmp_path / "x.html").stderr
    with pytest.raises(OSError, match="no file"):
        read_file("/dev/zero")


def test_a_sign_names_no_file_but_its_own(tmp_path):
    HeartbeatWriter(tmp_path, "0" * 24, "a job", "cpu").update("test")
    assert [heartbeat.title for heartbeat in read_all(tmp_path)] == ["a job"]
    (file,) = tmp_path.glob("*.json")
    facts = json.loads(file.read_text())
    for name, key in (("1" * 24, "0" * 24), ("x", "../../elsewhere")):
        (tmp_path / f"{name}.json").write_text(json.dumps({**facts, "key": key}))
    assert len(list(read_all(tmp_path))) == 1


def test_new_labels_are_put_on_what_lies_there_now(tiny, tmp_path):
    """A run that has planned by an older record does not bring it back; one that works on a job keeps it to itself."""
    run_suite(str(tiny), tmp_path / "run")
    run = RunDir(tmp_path / "run")
    planned = plan_suite(str(tiny), tmp_path / "run", Overrides(settings=["name=renamed"]))
    first, second = (run.read(job.key) for job in planned.suite.jobs[:2])
    newer = run.write(first.model_copy(update={"notes": ("newer",)}), run.predictions(first))
    with run.claim(second.key):
        relabelled(planned)
        assert run.read(second.key) == second
    assert run.read(first.key).notes == ("newer",)
    assert run.read(first.key).job.suite.name == "renamed"
    assert run.is_whole(newer)


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


def test_pruned_jobs_are_not_asked_for_any_more(suite_file, tmp_path):
    both = "name: few\nlimit: 20\nbackbones: [raw_pixels]\ntasks: [{}]\nprotocols: [ridge_probe]\n"
    suite = suite_file(both.format("digits, photo_regions"))
    run_suite(str(suite), tmp_path / "run")
    suite.write_text(both.format("digits"))
    assert command("prune", suite, "--out", tmp_path / "run", "--yes").returncode == 0
    said = command("status", tmp_path / "run")
    assert "1 jobs: 1 done, 0 failed, 0 at work, 0 waiting" in said.stdout
    assert "photo_regions" not in (tmp_path / "run" / "suite.lock.yaml").read_text()


@pytest.mark.parametrize("order", [("bare", "whole"), ("whole", "bare")])
def test_of_the_same_results_those_with_predictions_are_kept(tiny, tmp_path, order):
    run_suite(str(tiny), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "predictions")
    merge([tmp_path / name for name in order], tmp_path / "out")
    run = RunDir(tmp_path / "out")
    assert len([run.predictions(record) for record in load(tmp_path / "out")]) == 4


@pytest.mark.parametrize(
    ("name", "data"), [("plan.json", b'[{"a": 1}]'), ("plan.json", b"["), ("suite.lock.yaml", b"\xff\xfe")]
)
def test_a_damaged_plan_is_told_before_anything_is_merged(tiny, tmp_path, name, data):
    run_suite(str(tiny), tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(data)
    with pytest.raises(UsageError, match=name):
        merge([tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf"])
def test_a_wrong_number_in_the_environment_is_told_before_anything_runs(tiny, tmp_path, monkeypatch, text):
    monkeypatch.setenv("VITBENCH_CHECKPOINT_S", text)
    with pytest.raises(UsageError, match=r"\$VITBENCH_CHECKPOINT_S is .*not a number of 0 or more"):
        run_suite(str(tiny), tmp_path / "run")
    assert not (tmp_path / "run" / "records").exists()
    monkeypatch.setenv("VITBENCH_CHECKPOINT_S", "2.5")
    assert number_from("VITBENCH_CHECKPOINT_S", 60) == 2.5


def test_sigterm_while_it_plans_is_an_interrupt(tiny, tmp_path):
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'planning')!r}).touch()\ntime.sleep(60)\n"
    )
    command_ = [sys.executable, "-m", "vitbench", "run", tiny, "--plugin", tmp_path / "slow.py"]
    run = subprocess.Popen([*command_, "--out", tmp_path / "run"], stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while not (tmp_path / "planning").exists() and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, b"Traceback" in said) == (130, False)
