"""Run directories as a whole: sharded, merged, pruned, retried, estimated, and their status."""

import json
import shutil
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import vitbench
from vitbench.cli import cli
from vitbench.core.errors import UsageError
from vitbench.core.record import Failure, Metric
from vitbench.engine.run import Overrides, RunOptions, plan_suite, run_planned, run_suite
from vitbench.store.heartbeat import HeartbeatWriter
from vitbench.store.merge import merge
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.status import run_status


def cut(tiny, tmp_path, *, failing=()):
    """Two machines' directories with two of the suite's four jobs each."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for i, folder in enumerate(folders, 1):
        result = run_suite(str(tiny), folder, launch=RunOptions(shard=(i, 2)))
        assert len(result.records) == result.asked == 2
    return folders


def test_shards_of_one_directory_end_in_the_whole_board(tiny, tmp_path):
    for i in (1, 2):
        assert invoke("run", str(tiny), "--out", str(tmp_path / "run"), "--shard", f"{i}/2").exit_code == 0
    assert len(load(tmp_path / "run")) == 4
    again = run_suite(str(tiny), tmp_path / "run")
    assert (again.ran, len(again.records)) == (0, 4)


def invoke(*arguments):
    """What a command says, and its exit code."""
    result = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
    return SimpleNamespace(stdout=result.stdout, stderr=result.stderr, exit_code=result.return_value or 0)


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
    failed = record.model_copy(
        update={
            "status": "failed",
            "metrics": {},
            "failure": Failure(kind="X", message="once"),
            "predictions_sha256": "",
        }
    )
    RunDir(two).write(failed)
    merge([two, one], tmp_path / "both")
    assert all(record.status == "ok" for record in load(tmp_path / "both"))
    path = RunDir(one).predictions_path(record.key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=path.name):
        merge([two, one], tmp_path / "third")


def test_prune_lists_first_and_deletes_with_yes(tiny, tmp_path):
    out = tmp_path / "run"
    vitbench.run(tiny, out)
    tiny.write_text(tiny.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    before = sorted(out.rglob("*"))
    listed = invoke("prune", str(tiny), "--out", str(out))
    assert sorted(out.rglob("*")) == before
    assert "1 records, 3 files would be deleted" in listed.stderr
    invoke("prune", str(tiny), "--out", str(out), "--yes")
    left = {record.key for record in load(out)}
    assert left == {job.key for job in plan_suite(str(tiny), out, Overrides()).plan.jobs}
    assert run_suite(str(tiny), out).ran == 0


def test_status_says_what_is_done_running_silent_failed_and_damaged(tiny, tmp_path):
    out = tmp_path / "run"
    planned = plan_suite(str(tiny), out, Overrides())
    run_planned(planned, RunOptions(shard=(1, 2)))
    mine = {job.key for job in planned.jobs(RunOptions(shard=(1, 2)))}
    working, silent = (job for job in planned.plan.jobs if job.key not in mine)
    lock = planned.run.claim(working.key)
    for job in (working, silent):
        HeartbeatWriter(out / ".running", job.key, job.title, "cpu").update("features", 3, 9)
    path = out / ".running" / f"{silent.key}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seen_s": 1.0}))
    state = run_status(out)
    assert (state.asked, state.done, state.waiting) == (4, 2, 1)
    assert [heartbeat.key for heartbeat in state.working] == [working.key]
    assert [heartbeat.key for heartbeat in state.silent] == [silent.key]
    assert state.left_s > 0
    shown = invoke("status", str(out))
    assert shown.exit_code == 0
    assert f"{working.title}: features 3/9" in shown.stdout
    lock.release()
    damaged = planned.run.record_path(min(mine))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    shown = invoke("status", str(out), "--json")
    assert shown.exit_code == 1
    assert damaged.name in json.loads(shown.stdout)["damaged"][0]


def test_a_directory_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"is not a run directory \(no plan.json\)"):
        run_status(tmp_path)


def test_retry_runs_what_failed(tiny, tmp_path):
    out = tmp_path / "run"
    records = vitbench.run(tiny, out)
    failed = records[0].model_copy(
        update={
            "status": "failed",
            "metrics": {},
            "failure": Failure(kind="X", message="once"),
            "predictions_sha256": "",
        }
    )
    RunDir(out).write(failed)
    assert invoke("status", str(out)).exit_code == 1
    assert invoke("retry", str(out)).exit_code == 0
    assert invoke("status", str(out)).exit_code == 0
    assert [r.metrics for r in vitbench.run(tiny, out)] == [r.metrics for r in records]


def test_an_estimate_counts_each_feature_once_and_the_report_compares(suite_file, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.engine.estimate.CALIBRATION_S", 0.1)
    suite = suite_file(
        "name: e\nbudgets: [2-shot, full]\nbackbones: [{name: 'timm:resnet10t', pretrained: false, size_px: 32}]\n"
        "tasks: [digits]\nprotocols: [ridge_probe, knn, {name: finetune, recipe: own, steps: 3, batch_size: 8,"
        " base_lr: [0.1, 0.2], warmup_steps: 0, budgets: [full]}]\nlimit: 50\n"
    )
    out = tmp_path / "run"
    found = json.loads(invoke("run", str(suite), "--out", str(out), "--dry-run", "--json").stdout)
    records = vitbench.run(suite, out)
    measured = {
        name: sum(getattr(record.cost, name) for record in records)
        for name in ("images_forward", "images_backward")
    }
    assert found["estimate"]["images_forward"] == measured["images_forward"]
    assert found["estimate"]["images_backward"] == measured["images_backward"]
    each = records[0].cost.flops_per_image
    assert found["estimate"]["flops_forward"] == each * measured["images_forward"]
    assert found["estimate"]["flops_backward"] == 3 * each * measured["images_backward"]
    assert found["estimate"]["seconds"] > 0
    assert not found["estimate"]["unknown"]
    assert invoke("report", str(out)).exit_code == 0
    assert f"for {len(records)} of these jobs" in (out / "report.html").read_text()


def test_a_run_directory_moves_to_another_machine(tiny, tmp_path):
    first = vitbench.run(tiny, tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / ".locks")
    assert vitbench.run(tiny, tmp_path / "elsewhere") == first
