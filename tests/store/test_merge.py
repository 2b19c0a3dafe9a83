"""Shards and copies of a run, merged into one directory."""

import shutil

import pytest

from tests.making.command import vitbench as command
from tests.making.records import as_failed
from vitbench.core.errors import UsageError
from vitbench.core.record import Metric
from vitbench.engine.run import RunOptions, run_suite
from vitbench.store.merge import merge
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


def cut(tiny, tmp_path, *, failing=()):
    """Two machines' directories with two of the suite's four jobs each."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for i, folder in enumerate(folders, 1):
        result = run_suite(str(tiny), folder, options=RunOptions(shard=(i, 2)))
        assert len(result.records) == result.asked == 2
    return folders


def test_shards_of_one_directory_end_in_the_whole_board(tiny, tmp_path):
    for i in (1, 2):
        assert command("run", str(tiny), "--out", str(tmp_path / "run"), "--shard", f"{i}/2").returncode == 0
    assert len(load(tmp_path / "run")) == 4
    again = run_suite(str(tiny), tmp_path / "run")
    assert (again.ran, len(again.records)) == (0, 4)


def test_merged_directories_hold_everything_and_are_done(tiny, tmp_path):
    folders = cut(tiny, tmp_path)
    assert merge(folders, tmp_path / "both") == 4
    result = run_suite(str(tiny), tmp_path / "both")
    assert (result.ran, len(result.records)) == (0, 4)
    for record in result.records:
        assert len(result.run.predictions(record)) == record.metrics["top1"].n
    assert merge([*folders, tmp_path / "both"], tmp_path / "again") == 4


def test_two_results_of_one_job_are_refused_and_nothing_is_written(tiny, tmp_path):
    one, two = cut(tiny, tmp_path)
    record = load(one)[0]
    other = record.model_copy(update={"metrics": {"top1": Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=360)}})
    RunDir(two).write(other)
    with pytest.raises(UsageError, match=r"two different results of .* and top1 0\.5000"):
        merge([one, two], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_success_replaces_a_failure_and_damage_is_named(tiny, tmp_path):
    one, two = cut(tiny, tmp_path)
    record = load(one)[0]
    failed = as_failed(record)
    RunDir(two).write(failed)
    merge([two, one], tmp_path / "both")
    assert all(record.status == "ok" for record in load(tmp_path / "both"))
    path = RunDir(one).predictions_path(record.key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=path.name):
        merge([two, one], tmp_path / "third")


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
    assert "two different results of" in done.stderr


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
def test_a_damaged_plan_is_an_error_before_anything_is_merged(tiny, tmp_path, name, data):
    run_suite(str(tiny), tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(data)
    with pytest.raises(UsageError, match=name):
        merge([tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_the_same_results_those_with_further_metrics_are_kept_and_rounding_is_no_other_result(
    tiny, tmp_path, order
):
    run_suite(str(tiny), tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    shutil.copytree(tmp_path / "new", tmp_path / "rounded")
    for record in load(tmp_path / "old"):
        RunDir(tmp_path / "old").write(record.model_copy(update={"further": {}, "score_kind": "unknown"}))
    for record in load(tmp_path / "rounded"):
        ece = record.further["ece"]
        moved = ece.model_copy(update={"value": ece.value and ece.value * (1 + 1e-9)})
        RunDir(tmp_path / "rounded").write(
            record.model_copy(update={"further": {**record.further, "ece": moved}})
        )
    merge([tmp_path / name for name in (*order, "rounded")], tmp_path / "out")
    assert load(tmp_path / "out") == load(tmp_path / "new")
