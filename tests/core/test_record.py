import pytest
from pydantic import ValidationError

from vitbench.core.job import Component, Job, SuiteContext, shots_of
from vitbench.core.record import Record


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
