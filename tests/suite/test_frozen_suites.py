"""The frozen-feature suites, whole, on miniatures of their data sets."""

import json

import pytest
import yaml

import vitbench
from tests.making.boards import VTAB
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.suite import Overrides, expand, packaged_suites, read_suite


def plan_of(name):
    return expand(read_suite(packaged_suites()[name]), Overrides(backbones=("raw_pixels",)))


@pytest.fixture
def small(tmp_path):
    """A packaged suite with a backbone that takes no time."""

    def make(name):
        suite = yaml.safe_load(packaged_suites()[name].read_text())
        suite["backbones"] = [{"name": "raw_pixels", "size_px": 8}]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(suite))
        return tmp_path / f"{name}.yaml"

    return make


# A pair of tasks on one data set, and another.
FEW = ("vtab/smallnorb_azimuth", "vtab/smallnorb_elevation", "vtab/dtd")


@pytest.mark.parametrize(
    "tasks", [FEW, pytest.param(VTAB, marks=pytest.mark.slow)], ids=["few tasks", "all tasks"]
)
def test_vtab_tasks_by_three_probes_on_one_extraction(data_dir, small, tmp_path, monkeypatch, tasks):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    records = vitbench.run(small("vtab-frozen"), tmp_path / "run", budgets=("full",), tasks=tuple(tasks))
    assert {record.failure for record in records} == {None}
    assert len(records) == len(tasks) * 3
    by_task = {}
    for record in records:
        by_task.setdefault(record.job.task.name, []).append(record)
    for jobs in by_task.values():
        # Whichever came first, of a task or of its pair, extracted the features; the others read them.
        own = [any(not each.shared for each in record.cost.extractions) for record in jobs]
        assert sum(own) <= 1
        assert len({record.cost.images_forward for record in jobs}) == 1
        logistic = next(record for record in jobs if record.job.protocol.name == "logistic_probe")
        assert len(logistic.trials) == 45
        assert all(trial.certificate["relative_gap"] <= 1e-6 for trial in logistic.trials)


def test_vtab_frozen_is_all_of_vtab():
    plan = plan_of("vtab-frozen")
    assert {job.task.name for job in plan.jobs} == {
        entry.name for entry in TASKS.entries() if entry.name.startswith("vtab/")
    }
    assert {job.budget for job in plan.jobs} == {"1k"}
    assert {job.preprocess for job in plan.jobs} == {"squash"}


@pytest.mark.parametrize(("name", "budgets", "jobs"), [("fewshot", 4, 72), ("imagenet-fewshot", 2, 6)])
def test_few_shot_suites_ask_for_the_references_draws(name, budgets, jobs):
    plan = plan_of(name)
    assert len(plan.jobs) == jobs
    assert len({job.budget for job in plan.jobs}) == budgets
    assert {job.seed for job in plan.jobs} == {0, 1, 2}
    assert {job.preprocess for job in plan.jobs} == {"fewshot"}
    assert json.loads(plan.jobs[0].model_dump_json())["protocol"]["options"]["l2"] == "default"


def test_linear_probes_are_the_references_recipes_on_imagenet():
    plan = expand(read_suite(packaged_suites()["linear-probes"]))
    assert len(plan.jobs) == 9
    assert {job.task.name for job in plan.jobs} == {"imagenet"}
    departures = {
        job.protocol.label: PROTOCOLS.make(job.protocol.spec, job.protocol.options)[1].departures(job)
        for job in plan.jobs
    }
    assert [len(found) for found in departures.values()] == [2, 0, 0]


def test_the_fewshot_suite_runs_on_miniatures(data_dir, tmp_path):
    records = vitbench.run(
        "fewshot", tmp_path / "run", backbones=("raw_pixels",), budgets=("1-shot",), seeds=[0]
    )
    assert {record.failure for record in records} == {None}
    assert {record.trials[0].options["l2"] for record in records} == {1024.0}
