"""`--log`: what trackers are told equals the records, offline; a tracker that fails does not end a run."""

import sys

import pytest

import vitbench
from tests.making.command import vitbench as command

SUITE = (
    "name: logged\nbudgets: [full]\nlimit: 60\nseeds: [0, 1]\ntasks: [digits]\n"
    "backbones: [{name: raw_pixels, size_px: 8}, {name: raw_pixels, size_px: 4, label: 'small: 4 px'}]\n"
    "protocols: [{name: knn, k: 1}, ridge_probe]\n"
)
PLUGIN = """
from pathlib import Path
from vitbench import register_log
from vitbench.api import RunLog

@register_log("lines")
class Lines(RunLog):
    "A line for each job."

    def __init__(self, to: Path, fail: bool = False):
        self.to, self.fail = to, fail

    def job(self, record):
        if self.fail:
            raise ConnectionError("no answer")
        with self.to.open("a") as file:
            print(record.key, file=file)

    def end(self, board):
        with self.to.open("a") as file:
            print("end", board.name if board else None, file=file)
"""


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """Runs the suite with a log, and returns its records."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logged.yaml").write_text(SUITE)

    def run(*options, code=0):
        done = command("run", "logged.yaml", "--out", "run", *options)
        assert done.returncode == code, done.stderr
        return vitbench.load_records("run") if code == 0 else [], done

    return run


def tag(record, name):
    job = record.job
    return f"{job.task.label}/{job.protocol.label}/{job.budget}/{name}"


def test_tensorboard_has_every_number(logged, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records, _ = logged("--log", "tensorboard")
    assert len(records) == 4  # neither protocol depends on the seed here
    for record in records:
        folder = (
            tmp_path / "run" / "tensorboard" / record.job.backbone.label.replace(": ", "__").replace(" ", "_")
        )
        events = EventAccumulator(str(folder))
        events.Reload()
        found = {}
        for each in events.Tags()["tensors"]:
            (event,) = events.Tensors(each)
            assert event.step == record.job.seed
            found[each] = event.tensor_proto.float_val[0]
        wanted = {tag(record, name): metric.value for name, metric in record.metrics.items()}
        assert wanted
        assert {each: pytest.approx(value) for each, value in wanted.items()} == {
            each: found[each] for each in wanted
        }
        assert found[tag(record, "flops_per_image")] == record.cost.flops_per_image
    assert "<!doctype html>" in (tmp_path / "run" / "tensorboard" / "leaderboard.html").read_text()


def test_mlflow_has_every_job_and_the_board(logged, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "tracked").as_uri()
    records, done = logged("--log", f"mlflow,tracking_uri={uri},experiment=mine")
    assert "warning" not in done.stderr
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    jobs = {run.data.params["key"]: run for run in runs if "key" in run.data.params}
    (parent,) = (run for run in runs if "key" not in run.data.params)
    assert set(jobs) == {record.key for record in records}
    for record in records:
        run = jobs[record.key]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["backbone"] == record.job.backbone.label
        assert {name: run.data.metrics[name] for name in record.metrics} == {
            name: pytest.approx(metric.value) for name, metric in record.metrics.items()
        }
        assert run.info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(parent.info.run_id)] == ["report.html"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of wandb itself
def test_wandb_keeps_a_run_offline(logged, tmp_path):
    records, done = logged("--log", "wandb,project=vit,mode=offline")
    assert "nothing more goes there" not in done.stderr
    import wandb

    wandb.teardown()  # as at the end of the process: its service writes the file's last part then
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    kept = file.read_bytes()
    for record in records:
        assert record.key.encode() in kept
        assert tag(record, "top1").encode() in kept
    assert b"leaderboard" in kept


def test_a_plugin_registers_a_log_that_is_told_of_every_job_once(logged, tmp_path):
    (tmp_path / "lines.py").write_text(PLUGIN)
    records, _ = logged("--plugin", "lines.py", "--log", "lines,to=told.txt")
    *keys, end = (tmp_path / "told.txt").read_text().splitlines()
    assert sorted(keys) == sorted(record.key for record in records)
    assert end == "end report.html"
    logged("--plugin", "lines.py", "--log", "lines,to=told.txt")  # nothing to run, and nothing told twice
    assert (tmp_path / "told.txt").read_text().splitlines()[len(records) + 1 :] == ["end report.html"]


def test_a_log_that_fails_is_said_once_and_the_run_goes_on(logged, tmp_path):
    (tmp_path / "lines.py").write_text(PLUGIN)
    records, done = logged(
        "--plugin", "lines.py", "--log", "lines,to=told.txt,fail=true", "--log", "tensorboard"
    )
    assert [record.status for record in records] == ["ok"] * 4
    assert done.stderr.count("warning: --log lines: ConnectionError: no answer; nothing more goes there") == 1
    assert not (tmp_path / "told.txt").exists()
    assert (tmp_path / "run" / "tensorboard" / "leaderboard.html").is_file()


def test_what_is_wrong_with_a_log_is_said_before_anything_runs(logged, tmp_path, monkeypatch):
    _, done = logged("--log", "tensorbord", code=2)
    assert "tensorboard" in done.stderr
    _, done = logged("--log", "wandb,projekt=x", code=2)
    assert "projekt" in done.stderr
    monkeypatch.setitem(sys.modules, "wandb", None)
    _, done = logged("--log", "wandb", code=2)
    assert "pip install 'vitbench[log]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_python_takes_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logged.yaml").write_text(SUITE)
    vitbench.run("logged.yaml", "run", log=["tensorboard", {"name": "mlflow", "tracking_uri": "nowhere://"}])
    assert len(list((tmp_path / "run" / "tensorboard").rglob("events.*"))) == 2


def test_every_command_that_runs_takes_a_log(logged, tmp_path):
    """`folder` and `retry` run as `run` does; `reproduce` on its own way."""
    (tmp_path / "lines.py").write_text(PLUGIN)
    logged()
    done = command("retry", "run", "--plugin", "lines.py", "--log", "lines,to=told.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told.txt").read_text() == "end report.html\n"
    done = command("reproduce", "vit2021-t9-vit-l16-i21k", "--log", "tensorbord", "--on", "h100")
    assert done.returncode == 2
    assert "--on: for --dry-run only" in done.stderr
    done = command("reproduce", "vit2021-t9-vit-l16-i21k", "--log", "tensorbord")
    assert done.returncode == 2
    assert "tensorboard" in done.stderr
