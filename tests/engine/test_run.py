"""A run as a whole: done once, resumed, narrowed, failing, retried."""

import json

import pandas as pd
import pytest
import yaml

import vitbench
from tests.making.runs import Events, ran
from vitbench.core.errors import DataMissingError
from vitbench.engine.run import Overrides, plan_suite, run_planned, run_suite


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


def test_a_label_of_another_suite_reaches_all_results_of_a_backbone(tiny, tmp_path):
    """Otherwise one backbone has two rows in exports."""
    out = tmp_path / "run"
    ran(tiny, out)
    before = {record.key for record in vitbench.load_records(out)}
    other = tmp_path / "other.yaml"
    text = tiny.read_text().replace("{name: raw_pixels,", "{name: raw_pixels, label: Pixels,")
    other.write_text(
        text.replace("seeds: [0, 1]", "seeds: [5]").replace("tasks: [digits]", "tasks: [photo_regions]")
    )
    ran(other, out)
    after = vitbench.load_records(out)
    assert before < {record.key for record in after}
    assert {record.job.backbone.label for record in after} == {"Pixels"}
    assert {record.job.task.label for record in after} == {"digits", "photo_regions"}


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


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_failing_job_is_kept_and_retried_only_when_asked(flaky, tmp_path, workers):
    suite, plugin, marker = flaky
    how = {"plugins": [str(plugin)], "workers": workers}
    result, titles = ran(suite, tmp_path / "run", **how)
    assert (len(titles), result.failed) == (3, 1)
    failure = next(r.failure for r in result.records if r.failure)
    assert (failure.kind, failure.message) == ("RuntimeError", "fixed later")
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
