"""What a run will cost, estimated before it starts, compared with what it did cost."""

import json

import vitbench
from tests.making.command import vitbench as command
from vitbench.engine import estimate
from vitbench.engine.run import Overrides, plan_suite
from vitbench.store.run_dir import estimated


def test_an_estimate_counts_each_feature_once_and_the_report_compares(suite_file, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.engine.estimate.CALIBRATION_S", 0.1)
    suite = suite_file(
        "name: e\nbudgets: [2-shot, full]\nbackbones: [{name: 'timm:resnet10t', pretrained: false, size_px: 32}]\n"
        "tasks: [digits]\nprotocols: [ridge_probe, knn, {name: finetune, recipe: own, steps: 3, batch_size: 8,"
        " base_lr: [0.1, 0.2], warmup_steps: 0, budgets: [full]}]\nlimit: 50\n"
    )
    out = tmp_path / "run"
    found = json.loads(command("run", str(suite), "--out", str(out), "--dry-run", "--json").stdout)
    records = vitbench.run(suite, out)
    measured = {
        name: sum(getattr(record.cost, name) for record in records)
        for name in ("images_forward", "images_backward")
    }
    shared = [each for record in records for each in record.cost.extractions if each.shared]
    measured["images_forward"] -= sum(each.images for each in shared)  # the estimate counts them once
    assert found["estimate"]["images_forward"] == measured["images_forward"]
    assert found["estimate"]["images_backward"] == measured["images_backward"]
    each = records[0].cost.flops_per_image
    assert found["estimate"]["flops_forward"] == each * measured["images_forward"]
    assert found["estimate"]["flops_backward"] == 3 * each * measured["images_backward"]
    assert found["estimate"]["seconds"] > 0
    assert not found["estimate"]["unknown"]
    assert command("report", str(out)).returncode == 0
    assert f"for {len(records)} of these jobs" in (out / "report.html").read_text()


def test_what_jobs_share_is_made_once_for_all_of_them(suite_file, tmp_path, monkeypatch):
    """A suite of 100,000 jobs has a few hundred backbones, tasks and draws."""
    made = []

    def counted(name):
        original = getattr(estimate, name)
        monkeypatch.setattr(estimate, name, lambda *a, **k: (made.append(name), original(*a, **k))[1])

    for name in ("build", "labelled_data"):
        counted(name)
    suite = suite_file(
        "name: e\nseeds: [0, 1, 2]\nbudgets: [1-shot, 2-shot]\nlimit: 20\ntasks: [digits]\n"
        "backbones: [{name: raw_pixels, size_px: 2, label: a}, {name: raw_pixels, size_px: 3, label: b}]\n"
        "protocols: [ridge_probe, knn]\n"
    )
    plan = plan_suite(str(suite), tmp_path / "run", Overrides())
    found = estimate.estimate(plan.suite.jobs, "cpu")
    assert len(found.jobs) == len(plan.suite.jobs) == 24
    assert sorted(made) == ["build"] * 2 + ["labelled_data"] * 6  # one draw for each budget and seed
    estimate.keep(plan, found)
    assert estimated(plan.run.path) == {job.key: job.seconds for job in found.jobs}
