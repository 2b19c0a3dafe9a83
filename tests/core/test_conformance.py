"""The conformance list: each item can fail, alone, and says why."""

import pytest

from tests.making.jobs import component, make_job
from vitbench.core.conformance import ITEMS, Evidence, conformance
from vitbench.core.record import DataFacts, Duplicates, Metric
from vitbench.engine.components import load_all

DATA = {
    "group": "",
    "num_classes": 10,
    "n_train": 800,
    "n_val": 200,
    "n_test": 100,
    "fingerprints": {},
    "dataset": "cifar10",
    "duplicates": Duplicates(compared="pixels", test_in_train=0, test_in_val=0, val_in_train=0),
}
DOUBLES = Duplicates(
    compared="pixels", test_in_train=3, test_in_val=0, val_in_train=1, examples=(("a", "b"),)
)


def job(protocol=None, **changes):
    """A job that follows DINOv2's kNN, unless it is changed."""
    load_all()
    return make_job(protocol=protocol or component("knn", k=20), **{"preprocess": "dinov2_knn", **changes})


def lacking(
    budget="1k", limit=None, counted=100, weights=(), protocol=None, preprocess="dinov2_knn", **facts
):
    data = DataFacts(**{**DATA, **facts})
    score = Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=counted)
    evidence = Evidence(
        job(protocol, budget=budget, limit=limit, preprocess=preprocess), data, score, *weights
    )
    return {check.item: check.reason for check in conformance(evidence) if not check.ok}


FAILURES = {
    "not limited": ({"limit": 10}, "each split limited to 10 examples"),
    "every image readable": ({"skipped": ("a.jpg",)}, "1 unreadable images left out"),
    "exact N": ({"counted": 96}, "96 of 100 test examples are counted"),
    "split": ({"n_train": 700}, "700 + 200 examples instead of 800 + 200"),
    "data as the reference has them": ({"departures": ("too small", "odd")}, "too small; odd"),
    "no image in two splits": (
        {"duplicates": DOUBLES, "dataset": ""},
        "3 test images are training images, 1 validation images are training images, such as a = b",
    ),
    "protocol as its reference has it": (
        {"preprocess": "squash"},
        "preprocessing `squash` instead of `dinov2_knn`",
    ),
    "pixels as the weights expect": ({"weights": ((), "other mean")}, "other mean"),
    "weights have not seen this task's labels": (
        {"weights": (("cifar10",),)},
        "the weights were trained on cifar10",
    ),
}


def test_the_whole_list_holds():
    assert lacking() == {}
    assert lacking("5-shot", n_train=50, n_val=0) == {}


@pytest.mark.parametrize(("item", "failure"), FAILURES.items())
def test_an_item_fails_alone_with_its_reason(item, failure):
    change, reason = failure
    assert lacking(**change) == {item: reason}


UNKNOWN = {
    "pixels as the weights expect": ((), "", "nobody knows"),
    "weights have not seen this task's labels": (None,),
}


@pytest.mark.parametrize(("item", "weights"), UNKNOWN.items())
def test_what_nobody_knows_neither_holds_nor_fails(item, weights):
    score = Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=100)
    checks = conformance(Evidence(job(budget="1k"), DataFacts(**DATA), score, *weights))
    assert [(check.item, check.ok) for check in checks if not check.ok] == [(item, None)]
    assert all(check.reason for check in checks if not check.ok)


@pytest.mark.parametrize("facts", [{"duplicates": None}, {"duplicates": DOUBLES}])
def test_doubles_of_a_published_data_set_and_old_records_are_not_known(facts):
    score = Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=100)
    checks = conformance(Evidence(job(budget="1k"), DataFacts(**{**DATA, **facts}), score))
    assert [(check.item, check.ok) for check in checks if not check.ok] == [("no image in two splits", None)]


def test_a_stated_fault_is_no_doubt():
    assert lacking(weights=((), "other mean", "nobody knows")) == {
        "pixels as the weights expect": "other mean"
    }


def test_every_item_that_can_fail_is_tried():
    assert set(ITEMS) - set(FAILURES) == {"selection not on test"}  # test is sealed: tests/engine/test_job.py


def test_a_class_with_fewer_examples_than_shots_is_another_split():
    assert "instead of 50" in lacking("5-shot", n_train=49)["split"]


@pytest.mark.parametrize(
    "protocol", [component("finetune", recipe="own"), component("unheard-of"), component("knn", q=3)]
)
def test_a_protocol_without_a_reference_or_that_nobody_has_is_not_known(protocol):
    data, score = DataFacts(**DATA), Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=100)
    checks = conformance(Evidence(job(protocol, budget="1k", preprocess="squash"), data, score))
    assert [(check.item, check.ok) for check in checks if not check.ok] == [
        ("protocol as its reference has it", None)
    ]
