"""`vitbench retry`: the whole run or a part of it, with the options of `vitbench run`."""

import pytest

from tests.making.command import vitbench
from tests.making.records import as_failed
from vitbench.core.record import Failure
from vitbench.engine.run import run_suite
from vitbench.store.plan_file import read_plan_of
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


@pytest.fixture
def out(tiny, tmp_path):
    """A run all of whose jobs have failed."""
    result = run_suite(str(tiny), tmp_path / "run")
    failed = {
        "status": "failed",
        "metrics": {},
        "failure": Failure(kind="X", message="once"),
        "predictions_sha256": "",
    }
    for record in result.records:
        result.run.write(record.model_copy(update=failed))
    return tmp_path / "run"


def test_a_failed_job_is_run_again_to_the_same_score(tiny, tmp_path):
    run = tmp_path / "run"
    records = run_suite(str(tiny), run).records
    RunDir(run).write(as_failed(records[0]))
    assert vitbench("status", run).returncode == 1
    assert vitbench("retry", run).returncode == 0
    assert vitbench("status", run).returncode == 0
    assert [r.metrics for r in run_suite(str(tiny), run).records] == [r.metrics for r in records]


def succeeded(out):
    return {(record.job.protocol.label, record.job.budget) for record in load(out) if record.status == "ok"}


def test_a_part_is_retried_and_the_whole_run_stays_requested(out):
    files = {name: (out / name).read_bytes() for name in ("plan.json", "suite.lock.yaml")}
    done = vitbench("retry", out, "--protocol", "ridge_probe", "--budget", "full", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert succeeded(out) == {("ridge_probe", "full")}
    assert {name: (out / name).read_bytes() for name in files} == files
    assert len(read_plan_of(out)) == 4
    assert vitbench("retry", out).returncode == 0
    assert succeeded(out) == {("ridge_probe", "full"), ("ridge_probe", "2-shot"), ("knn", "full")}


def test_a_dry_run_lists_the_part(out):
    done = vitbench("retry", out, "--protocol", "knn", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to run") == len(done.stdout.splitlines()) == 1


def test_shards_divide_the_part(out):
    for i in (1, 2):
        assert vitbench("retry", out, "--protocol", "ridge_probe", "--shard", f"{i}/2").returncode == 0
    assert succeeded(out) == {("ridge_probe", "full"), ("ridge_probe", "2-shot")}


def test_new_jobs_are_refused(out):
    done = vitbench("retry", out, "--limit", "20")
    assert done.returncode == 2
    assert f"4 of the selected jobs are not part of {out}" in done.stderr
    assert f"next:         vitbench run SUITE --out {out}" in done.stderr
    done = vitbench("retry", out, "--backbone", "timm:resnet10t")
    assert done.returncode == 2
    assert "no jobs match these filters" in done.stderr


def test_a_directory_without_a_lock_file_is_refused(tmp_path):
    done = vitbench("retry", tmp_path)
    assert done.returncode == 2
    assert "has no suite.lock.yaml" in done.stderr
