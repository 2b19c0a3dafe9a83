"""Jobs of a submission run again: equal, off by little, or found out."""

from collections import Counter

import pandas as pd
import pytest

import vitbench
from tests.making.forged import forged
from tests.making.jobs import make_job
from tests.making.records import as_failed
from vitbench.core.record import Failure
from vitbench.engine.outcome import Outcome
from vitbench.engine.rerun import Difference, difference, here, rerun, spread
from vitbench.store.record_file import load
from vitbench.store.submission import check, pack


def bare(record):
    return record.model_copy(update={"confusion": None, "worst": ()})


def all_right(rows):
    """Predictions rewritten to the labels: everything handed in agrees."""
    return rows.assign(prediction=rows["label"], top1_correct=1.0)


def test_an_honest_submission_is_equal_and_stays_as_it_is(packed, tmp_path):
    before = packed.read_bytes()
    with here("cpu") as run:
        reruns = rerun(check(packed), 4, 0, run)
    assert {str(difference) for _, difference in reruns.compared.values()} == {"equal"}
    assert len(reruns.compared) == 4
    assert (reruns.problems, reruns.not_run, packed.read_bytes()) == ({}, {}, before)


def test_rewritten_predictions_are_found_by_running_the_job(packed, tmp_path):
    found, key = forged(packed, tmp_path, bare, all_right)
    assert found.problems == ()  # nothing handed in gives it away
    with here("cpu") as run:
        reruns = rerun(found, 4, 0, run)
    assert list(reruns.problems) == [key]
    assert "of 359 predictions differ, the score by" in reruns.problems[key]
    left = found.without(reruns.problems)
    assert {record.key for record in left.records} == {r.key for r in load(tmp_path / "run")} - {key}
    assert left.problems[0].startswith(f"records/{key}.json: run again here: ")


@pytest.mark.parametrize(("name", "value"), [("top5", 1.0), ("nll", 0.3), ("ece", 0.02)])
def test_metrics_that_need_scores_are_compared(tiny_records, name, value):
    record = next(r for r in tiny_records if r.further["nll"].value is not None)
    rows = pd.DataFrame({"index": [0], "prediction": [1]})
    assert str(difference(record, rows, record, rows)) == "equal"

    def stating(value):
        changed = record.further[name].model_copy(update={"value": value})
        return record.model_copy(update={"further": {**record.further, name: changed}})

    assert not difference(stating(value), rows, stating(value * 0.999), rows).is_too_large
    assert difference(stating(value), rows, stating(value / 2), rows).is_too_large
    assert difference(stating(value), rows, record.model_copy(update={"further": {}}), rows).is_too_large
    assert not difference(record.model_copy(update={"further": {}}), rows, stating(value), rows).is_too_large


def test_weights_that_are_said_not_to_have_seen_the_labels_are_found(suite_file, data_dir, tmp_path):
    suite = suite_file(
        "name: one\nbudgets: [full]\ntasks: [vtab/pets]\nprotocols: [knn]\n"
        "backbones: [{name: raw_pixels, size_px: 8, trained_on: [oxford_iiit_pet]}]\n"
    )
    vitbench.run(suite, tmp_path / "run", seeds=[0])
    pack(tmp_path / "run", tmp_path / "s.zip")
    item = "weights have not seen this task's labels"

    def hidden(record):
        assert [check.ok for check in record.conformance if check.item == item] == [False]
        checks = [check.model_copy(update={"ok": True, "reason": ""}) for check in record.conformance[-2:]]
        backbone = record.backbone.model_copy(update={"trained_on": ()})
        return record.model_copy(
            update={"conformance": (*record.conformance[:-2], *checks), "backbone": backbone}
        )

    found, key = forged(tmp_path / "s.zip", tmp_path, hidden)
    assert found.problems == ()
    with here("cpu") as run:
        assert f"equal; {item!r} does not hold" in rerun(found, 1, 0, run).problems[key]


@pytest.mark.parametrize(
    ("difference", "too_large", "text"),
    [
        (Difference(0, 100, 0.0), False, "equal"),
        (Difference(1, 100, 0.005), False, "1 of 100 predictions differ, the score by 0.50 points"),
        (Difference(2, 100, 0.0), True, "2 of 100 predictions differ, the score by 0.00 points"),
        (Difference(0, 100, 0.0, ("split",)), True, "equal; 'split' does not hold"),
        (Difference(0, 1000, 0.0051), True, "0 of 1,000 predictions differ, the score by 0.51 points"),
    ],
)
def test_what_rounding_may_change(difference, too_large, text):
    assert (difference.is_too_large, str(difference)) == (too_large, text)


def test_the_choice_is_spread_repeats_with_its_seed_and_differs_without():
    jobs = [
        make_job(task=task, budget=budget, seed=seed)
        for task in ("digits", "photo_regions")
        for budget in ("full", "1-shot")
        for seed in range(10)
    ]
    for seed in range(5):
        first = list(spread(jobs, seed))
        assert Counter(job.task.name for job in first[:6]) == {"digits": 3, "photo_regions": 3}
        assert sorted(job.key for job in first) == sorted(job.key for job in jobs)
        assert first == list(spread(jobs[::-1], seed))
    assert len({next(spread(jobs, seed)).key for seed in range(20)}) > 5


def other(kind, change):
    """The same submission, whose jobs have another part of this kind."""

    def of(record):
        part = getattr(record.job, kind).model_copy(update=change)
        job = record.job.model_copy(update={kind: part})
        return record.model_copy(update={"job": job, "key": job.key})

    return of


OBSTACLES = {
    "another version": ("backbone", {"version": "9"}, "the code of raw_pixels is not the submitter's: 9 there, 1 here"),
    "unknown": ("backbone", {"name": "nope"}, "unknown backbone 'nope'"),
    "other data": ("task", {"contents": {"data": "a"}}, "the data of digits is not the submitter's: a there, nothing here"),
    "their folder": ("task", {"name": "folder", "options": {"path": "/x"}}, "the data of folder are files of the submitter's"),
    "unknown protocol": ("protocol", {"name": "nope"}, "unknown protocol 'nope'"),
}  # fmt: skip


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_run_here_is_said_and_does_not_count(packed, obstacle):
    kind, change, said = OBSTACLES[obstacle]
    found = check(packed)
    records = (*map(other(kind, change), found.records[:3]), found.records[3])
    with here("cpu") as run:
        reruns = rerun(type(found)(records, (), found.files), 1, 0, run)
    assert list(reruns.compared) == [found.records[3].key]
    assert all(reason.startswith(said) for reason in reruns.not_run), reruns.not_run


@pytest.mark.parametrize(("phase", "tried"), [("build", 1), ("adapt", 2)])
def test_a_failure_is_said_and_never_keeps_us_busy(packed, phase, tried):
    asked = []

    def fails(job):
        asked.append(job)
        failure = Failure(kind="X", message="no\nmore", phase=phase)
        return Outcome(as_failed(load(packed.parent / "run")[0]).model_copy(update={"failure": failure}))

    reruns = rerun(check(packed), 2, 0, fails)
    assert (len(asked), reruns.compared) == (tried, {})  # a backbone that cannot be built is tried once
    assert reruns.not_run == {f"{phase}: no": 4 if phase == "build" else 2}
