"""What a run will cost, estimated before it starts, compared with what it did cost."""

import json

import vitbench
from tests.making.command import vitbench as command


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
    assert found["estimate"]["images_forward"] == measured["images_forward"]
    assert found["estimate"]["images_backward"] == measured["images_backward"]
    each = records[0].cost.flops_per_image
    assert found["estimate"]["flops_forward"] == each * measured["images_forward"]
    assert found["estimate"]["flops_backward"] == 3 * each * measured["images_backward"]
    assert found["estimate"]["seconds"] > 0
    assert not found["estimate"]["unknown"]
    assert command("report", str(out)).returncode == 0
    assert f"for {len(records)} of these jobs" in (out / "report.html").read_text()
