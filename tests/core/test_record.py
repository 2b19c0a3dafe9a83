import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from vitbench.core.job import PREPROCESS_VERSIONS, Component, Job, SuiteContext, shots_of
from vitbench.core.record import Cost, Record, Trial


def component(**changes):
    return Component(**{"name": "x", "version": "1", "label": "X", **changes})


def job(**changes):
    fields = {
        "suite": SuiteContext(name="s", tasks=("x",), seeds=1),
        "backbone": component(),
        "task": component(),
        "protocol": component(),
        "budget": "full",
        "seed": 0,
    }
    return Job(**{**fields, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "5-shot"},
        {"seed": 1},
        {"limit": 10},
        {"dtype": "bfloat16"},
        {"resolution_px": 64},
        {"preprocess": "fewshot"},
        {"backbone": component(name="y")},
        {"backbone": component(options={"a": 1})},
        {"task": component(version="2")},
        {"protocol": component(options={"l2": 1.0})},
        {"task": component(options={"path": "/a"}, contents={"path": "abc"})},
    ],
    ids=str,
)
def test_whatever_moves_a_score_moves_the_key(change):
    assert job(**change).key != job().key


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 10, "resolution_px": 64, "seed": 7, "preprocess": "fewshot"},
        {"task": component(options={"b": 'ü"', "a": [1.5, None, {"z": True}]}, argument="é")},
        {"backbone": component(options={"path": "/a"}, contents={"path": "abc"})},
    ],
    ids=str,
)
def test_a_key_is_the_digest_of_one_json_text(change):
    """The text is joined from parts that jobs share; every record ever written is named by it."""
    found = job(**change)
    parts = {name: getattr(found, name).identity() for name in ("backbone", "task", "protocol")}
    parts |= {"schema": 1, "budget": found.budget, "seed": found.seed, **found.measuring}
    assert found.key == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def test_the_jobs_of_a_cell_differ_in_their_seed_alone():
    first = job(limit=3)
    seeds = list(first.with_seeds([0, 5]))
    assert seeds == [first, job(limit=3, seed=5)]
    assert [each.key for each in seeds] == [first.key, job(limit=3, seed=5).key]
    assert seeds[1].model_dump_json() == job(limit=3, seed=5).model_dump_json()


@pytest.mark.parametrize("name", PREPROCESS_VERSIONS)
def test_a_preset_whose_pixels_changed_has_other_keys_than_before(monkeypatch, name):
    found = job(preprocess=name).key
    monkeypatch.setitem(PREPROCESS_VERSIONS, name, PREPROCESS_VERSIONS[name] + 1)
    assert job(preprocess=name).key != found
    monkeypatch.delitem(PREPROCESS_VERSIONS, name)
    assert job(preprocess=name).key != found


def test_labels_and_places_do_not_move_the_key():
    at = component(options={"path": "/a"}, contents={"path": "abc"})
    moved = component(label="Y", options={"path": "/b"}, contents={"path": "abc"})
    assert job(task=at).key == job(task=moved).key
    other_suite = SuiteContext(name="other", tasks=("x", "y"), seeds=3)
    assert job(suite=other_suite).key == job().key


def test_a_changed_copy_has_a_key_of_its_own():
    first = job()
    assert first.key != first.model_copy(update={"seed": 5}).key


def test_the_key_is_the_same_on_every_machine_and_day():
    assert job().key == "86971380513b974efe3419c9"


@pytest.mark.parametrize("budget", ["5shot", "0-shot", "full ", "1K", "-1-shot", "9999999-shot"])
def test_a_budget_that_does_not_exist_is_refused(budget):
    with pytest.raises(ValidationError, match="full, 1k, or N-shot"):
        job(budget=budget)


def test_shots():
    assert [shots_of(b) for b in ("5-shot", "full", "1k")] == [5, None, None]


def test_a_record_survives_json(tiny_records):
    for record in tiny_records:
        assert Record.model_validate_json(record.model_dump_json()) == record


def test_a_record_with_a_foreign_field_is_refused(tiny_records):
    text = tiny_records[0].model_dump_json().replace('"schema_version":1', '"schema_version":1,"evil":2')
    with pytest.raises(ValidationError, match="evil"):
        Record.model_validate_json(text)


@pytest.mark.parametrize("value", ["7.5", "-0.1", "NaN"])
def test_a_score_that_is_no_fraction_is_no_record(tiny_records, value):
    record = tiny_records[0]
    text = record.model_dump_json().replace(f'"value":{record.metrics["top1"].value}', f'"value":{value}', 1)
    assert text != record.model_dump_json()
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


NON_FINITE = (float("inf"), float("-inf"), float("nan"))


@pytest.mark.parametrize("value", NON_FINITE)
def test_a_number_that_is_not_finite_is_refused_with_its_fields_name(value):
    with pytest.raises(ValidationError, match=r"options[\s\S]*l2 is (inf|-inf|nan): only finite"):
        Component(name="knn", version="1", label="knn", options={"l2": value})
    with pytest.raises(ValidationError, match=r"grid is"):
        Trial(options={"grid": [1.0, value]}, split="val", metric="top1", value=0.5, chosen=True)
    for field in ({"value": value}, {"certificate": {"gap": value}}, {"curve": {"loss": (value,)}}):
        with pytest.raises(ValidationError, match=next(iter(field))):
            Trial(**{"options": {}, "split": "val", "metric": "top1", "value": 0.5, "chosen": True, **field})


COST = {
    "seconds": {"adapt": 1.0}, "device": "cpu", "device_kind": "cpu", "peak_memory_bytes": 1, "flops_per_image": 1,
    "images_forward": 1, "images_backward": 0, "energy_joules": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": {"adapt": -1.0}}, {"seconds": {"adapt": float("nan")}}, {"flops_per_image": 10**400},
        {"flops_per_image": 2**63}, {"flops_per_image": -1}, {"images_forward": -1},
        {"peak_memory_bytes": -1}, {"energy_joules": float("inf")},
    ],
)  # fmt: skip
def test_costs_that_cannot_be_are_refused(change):
    assert Cost(**COST).work_s == 1.0
    with pytest.raises(ValidationError, match=next(iter(change))):
        Cost(**{**COST, **change})


@pytest.mark.parametrize(
    "value", [2**1023, "half a pair: \ud800", {"\udcff": 1}, Path("/data/caf\udce9")], ids=["number", "text", "name", "path"]
)  # fmt: skip
def test_options_that_json_or_a_chart_cannot_hold_are_refused(value):
    with pytest.raises(ValidationError, match=r"too many to be recorded|only text in UTF-8"):
        Component(name="knn", version="1", label="knn", options={"at": value})
