"""A task whose test images belong together: in the record, its predictions, on the board, in comparisons and submissions."""

import json
import re
import zipfile

import numpy as np
import pytest

from tests.making.command import vitbench as command
from tests.making.forged import changed
from tests.making.runs import ran
from vitbench.core.clusters import score_interval
from vitbench.report.outcomes import Predictions
from vitbench.report.page import Extras, render
from vitbench.report.tidy import tidy
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack

PLUGIN = """
from dataclasses import replace
import numpy as np
from vitbench import register_task
from vitbench.api import Task
from vitbench.tasks.digits import digits

class Writers(Task):
    class_names = tuple("0123456789")

    def train(self):
        return digits().train()

    def val(self):
        return digits().val()

    def test(self):
        found = digits().test()
        return replace(found, clusters=np.arange(len(found)) // 9 + 100)

@register_task("writers")
def writers() -> Task:
    "Digits of forty writers."
    return Writers()
"""
SUITE = """
name: c
seeds: [0, 1]
budgets: [2-shot]
backbones: [raw_pixels, {name: raw_pixels, size_px: 4, label: small}]
tasks: [writers]
protocols: [ridge_probe]
"""


@pytest.fixture
def run(suite_file, tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "writers.py").write_text(PLUGIN)
    result, _ = ran(suite_file(SUITE), tmp_path / "run", plugins=[str(tmp_path / "writers.py")])
    assert [record.failure for record in result.records] == [None] * 4
    return result


def test_intervals_are_over_clusters_everywhere(run, tmp_path):
    path = tmp_path / "run"
    for record in run.records:
        rows, metric = RunDir(path).predictions(record), record.metrics["top1"]
        assert rows["cluster"].nunique() == metric.clusters == 40
        wanted = score_interval(rows["top1_correct"].to_numpy(), rows["cluster"].to_numpy())
        assert (metric.ci_low, metric.ci_high) == wanted
    assert set(tidy(run.records)["clusters"].dropna()) == {40}
    page = render(run.records, Extras(predictions=Predictions([path])))
    assert "359 images in 40 clusters, 2 seeds" in page
    said = command("compare", path, "--backbones", "raw_pixels", "small").stdout
    assert re.search(r"n 359 in 40 clusters, seeds 2, paired", said), said
    (ranks,) = json.loads(command("compare", path, "--json").stdout).values()
    assert len(ranks) == 2, ranks


def test_a_submission_states_the_intervals_of_its_clusters(run, tmp_path):
    path = tmp_path / "run"
    pack(path, tmp_path / "s.zip")
    assert check(tmp_path / "s.zip").problems == ()
    first = load(path)[0]
    metric = first.metrics["top1"].model_copy(update={"clusters": None})
    forged = encode(first.model_copy(update={"metrics": {"top1": metric}}))
    name = f"records/{first.key}.json"
    other = changed(tmp_path / "s.zip", lambda own, data: [(own, forged if own == name else data)])
    assert "stated over None clusters" in " ".join(check(other).problems)
    assert zipfile.is_zipfile(other)
    assert np.isfinite(metric.ci_low)
