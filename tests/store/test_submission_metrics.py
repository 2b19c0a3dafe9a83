"""Metrics beside a task's own in a submission: recomputed from predictions and class scores, or said not to be checked."""

import hashlib

import numpy as np
import pytest

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.record import FurtherMetric
from vitbench.core.wilson import wilson
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.scores import encode_scores
from vitbench.store.submission_checks import Labels, faults

SUITE = """\
name: three
budgets: [full]
seeds: [0]
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [digits]
protocols: [ridge_probe, {name: knn, k: 20}, {name: logistic_probe, c: 0.01, preprocess: squash}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    (folder / "three.yaml").write_text(SUITE)
    vitbench.run(folder / "three.yaml", folder / "run", keep_scores=True)
    return RunDir(folder / "run")


def of(run, protocol):
    return next(record for record in load(run.path) if record.job.protocol.name == protocol)


def told(run, record, scores=None):
    table = run.predictions_path(record.key).read_bytes()
    return list(faults(record, {"": table}, Labels(), scores))


def stated(record, name, **changes):
    further = {**record.further, name: record.further[name].model_copy(update=changes)}
    return record.model_copy(update={"further": further})


@pytest.mark.parametrize("protocol", ["ridge_probe", "knn", "logistic_probe"])
def test_an_honest_record_has_no_fault(run, protocol):
    record = of(run, protocol)
    assert told(run, record) == []
    assert told(run, record, run.scores_path(record.key).read_bytes()) == []


def top5_of(hits, n=359):
    low, high = wilson(hits, n)
    return {"value": hits / n, "ci_low": low, "ci_high": high}


@pytest.mark.parametrize(
    ("protocol", "name", "changes", "said"),
    [
        (
            "knn",
            "mean_per_class",
            {"value": 0.999},
            "mean_per_class is stated as 0.9990, the predictions give",
        ),
        ("ridge_probe", "mean_per_class", {"ci_low": 0.9, "ci_high": 1.0}, "and no interval"),
        ("knn", "mean_per_class", {"n": 358}, "mean_per_class is stated over 358 images, 359 count"),
        ("knn", "top5", {"value": 0.5}, "which no number of images from"),
        ("knn", "top5", top5_of(300), "which no number of images from"),
        ("knn", "top5", {"ci_low": 0.5}, "the interval of top5"),
        ("knn", "top5", {"ci_low": None, "ci_high": None}, "the interval of top5"),
        ("logistic_probe", "nll", {"value": 0.001}, "less than its errors alone come to"),
        ("logistic_probe", "nll", {"ci_low": 0.1, "ci_high": 0.2}, "with an interval"),
        ("logistic_probe", "ece", {"value": 1.5}, "more than 1"),
        ("logistic_probe", "ece", {"value": 0.01}, "the bins of ece do not add up to it"),
        ("logistic_probe", "ece", {"bins": ((359, 0.9, 300),)}, "the bins of ece do not add up to it"),
        (
            "ridge_probe",
            "nll",
            {"value": 1.0, "note": ""},
            "nll is stated, but the scores are those of a regression",
        ),
        (
            "ridge_probe",
            "ece",
            {"value": 0.1, "note": ""},
            "ece is stated, but the scores are those of a regression",
        ),
    ],
)
def test_what_predictions_do_not_allow_is_told(run, protocol, name, changes, said):
    assert any(said in text for text in told(run, stated(of(run, protocol), name, **changes)))


@pytest.mark.parametrize(
    ("protocol", "name", "changes"),
    [
        ("ridge_probe", "top5", top5_of(359)),
        ("logistic_probe", "nll", {"value": 0.5}),
        ("logistic_probe", "ece", {"value": 0.01, "bins": ()}),
    ],
)
def test_what_needs_scores_is_told_only_with_them(run, protocol, name, changes):
    record = stated(of(run, protocol), name, **changes)
    assert told(run, record) == []
    (text,) = told(run, record, run.scores_path(record.key).read_bytes())
    assert text.startswith(f"{name} is stated as")
    assert "the class scores give" in text


def test_scores_of_other_predictions_are_told(run):
    record = of(run, "knn")
    other = encode_scores(run.scores(record)[::-1])
    assert told(run, record, other) == ["its predictions are not the classes with the highest scores"]
    assert "not readable" in told(run, record, other[:-9])[0]


def test_a_kind_of_scores_that_the_protocol_does_not_have_is_told(run):
    record = of(run, "ridge_probe").model_copy(update={"score_kind": "logits"})
    assert "stated as logits, those of ridge_probe are regression" in told(run, record)[0]


def test_a_task_with_another_measure_states_none(run):
    record = of(run, "knn")
    rows = run.predictions(record)
    rows["real_correct"] = np.where(rows.index < 9, np.nan, 1.0)
    low, high = wilson(350, 350)
    metrics = {
        "real": record.metrics["top1"].model_copy(
            update={"value": 1.0, "ci_low": low, "ci_high": high, "n": 350}
        )
    }
    rows = rows.drop(columns="top1_correct")
    data = rows.to_parquet(index=False)
    changed = record.model_copy(
        update={"metrics": metrics, "worst": (), "predictions_sha256": hashlib.sha256(data).hexdigest()}
    )
    assert any(
        "its task is not scored by one label per image" in text
        for text in faults(changed, {"": data}, Labels())
    )
    none = {name: FurtherMetric(n=0, note="other") for name in record.further}
    assert not any(
        "one label" in text
        for text in faults(changed.model_copy(update={"further": none}), {"": data}, Labels())
    )


def test_records_without_them_are_not_faulty(run):
    record = of(run, "knn").model_copy(update={"further": {}, "score_kind": "unknown"})
    assert told(run, record) == []


def test_the_command_says_what_it_did_not_check(run, tmp_path):
    for flags, said in (
        ([], "checked for 3 scores: top-5, NLL and calibration error from class scores"),
        (
            ["--without-scores"],
            "not checked for 3 scores: top-5, NLL and calibration error, but for their bounds",
        ),
    ):
        assert command("pack", run.path, "-o", tmp_path / "s.zip", *flags).returncode == 0
        done = command("unpack", tmp_path / "s.zip", "--check")
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stderr
        assert "checked for 3 of 3 scores: mean per-class accuracy from predictions" in done.stderr
