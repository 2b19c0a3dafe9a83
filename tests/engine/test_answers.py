"""From class scores to a record's further metrics: every protocol beside scikit-learn, tasks of other measures, blocks."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from tests.making.jobs import RESNET, component, make_job
from vitbench.api import TOP1, Adapted, Protocol, ScoreRule
from vitbench.core.class_scores import NO_PROBABILITIES, ece
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.engine import answers
from vitbench.engine.answers import answer
from vitbench.engine.executors.torchrun import run_in_processes
from vitbench.engine.job import run_job
from vitbench.engine.worker import Worker
from vitbench.protocols import ridge_probe


def digits():
    """Features of raw pixels of train with val and of test, with labels."""
    task = TASKS.get("digits")[0].build()
    stack = lambda s: np.stack(s.source.read(s.indices)).reshape(len(s), -1) / 127.5 - 1  # noqa: E731
    parts = (task.train(), task.val())
    labelled = np.concatenate([stack(s) for s in parts]), np.concatenate([s.labels for s in parts])
    return *labelled, stack(task.test()), task.test().labels


def of(worker, protocol, task="digits", **options):
    """The record of a job, with its class scores (N, C) and labels."""
    job = make_job(task=task, protocol=component(protocol, **options))
    outcome = run_job(job, replace(worker, keep_scores=True))
    assert outcome.record.status == "ok", outcome.record.failure
    rows = outcome.predictions
    assert outcome.record.further["mean_per_class"].value == pytest.approx(
        balanced_accuracy_score(rows["label"], rows["prediction"]), abs=1e-12
    )
    return outcome.record, outcome.scores, rows["label"].to_numpy()


def test_logistic_probe_has_scikit_learns_probabilities(worker):
    record, scores, _ = of(worker, "logistic_probe", c=0.02)
    x, y, x_test, y_test = digits()
    model = LogisticRegression(C=0.02, tol=1e-10, max_iter=10_000).fit(x, y)
    expected = model.predict_proba(x_test)
    right = expected.argmax(1) == y_test
    assert record.score_kind == "logits"
    assert record.further["nll"].value == pytest.approx(log_loss(y_test, expected), rel=1e-4)
    assert record.further["ece"].value == pytest.approx(ece(expected.max(1), right, "logits").value, abs=1e-3)
    assert record.further["top5"].value == top_k_accuracy_score(y_test, expected, k=5)
    assert softmax(scores.astype(float), axis=1) == pytest.approx(expected, abs=2e-3)


def test_knn_has_the_shares_of_its_weighted_votes(worker):
    record, _, _ = of(worker, "knn", k=20)
    x, y, x_test, y_test = digits()
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    weights = lambda distance: np.exp((1 - distance**2 / 2) / 0.07)  # noqa: E731  of cosines, from unit vectors' distances
    train = len(TASKS.get("digits")[0].build().train())  # neighbours come from train alone
    model = KNeighborsClassifier(20, weights=weights).fit(unit(x[:train]), y[:train])
    expected = model.predict_proba(unit(x_test))
    right, impossible = expected.argmax(1) == y_test, expected[np.arange(len(y_test)), y_test] == 0
    assert record.score_kind == "votes"
    assert record.further["ece"].value == pytest.approx(ece(expected.max(1), right, "votes").value, abs=2e-3)
    if impossible.any():
        assert record.further["nll"].value is None
        assert f"on {impossible.sum()} of 359 images" in record.further["nll"].note
    else:
        assert record.further["nll"].value == pytest.approx(log_loss(y_test, expected), rel=1e-3)


def test_one_neighbour_votes_for_one_class(worker):
    record, _, labels = of(worker, "knn", "photo_regions", k=1)
    top1, n = record.metrics["top1"].value, len(labels)
    wrong = round((1 - top1) * n)
    assert wrong > 0
    assert record.further["top5"].value == top1
    assert record.further["nll"].note == f"infinite: the label has probability zero on {wrong} of {n} images"
    assert record.further["ece"].value == pytest.approx(1 - top1)


def test_ridge_probe_has_no_probabilities_but_an_order(worker):
    record, _, _ = of(worker, "ridge_probe", l2=100.0)
    x, y, x_test, y_test = (torch.from_numpy(each) for each in digits())
    train = len(TASKS.get("digits")[0].build().train())  # a fixed l2 learns from train alone
    expected = ridge_probe.fit(x[:train].float(), y[:train], 10, 100.0).scores(x_test.float(), 100.0)
    assert record.further["top5"].value == top_k_accuracy_score(y_test, expected, k=5, labels=range(10))
    assert {record.further[name].note for name in ("nll", "ece")} == {NO_PROBABILITIES["regression"]}


def test_finetune_has_the_softmax_of_its_logits(worker):
    options = {"recipe": "own", "steps": 6, "warmup_steps": 1, "base_lr": 0.05, "batch_size": 16}
    job = make_job(backbone=RESNET.name, protocol=component("finetune", **options), limit=200, budget="full")
    outcome = run_job(job.model_copy(update={"backbone": RESNET}), replace(worker, keep_scores=True))
    record, labels = outcome.record, outcome.predictions["label"]
    expected = softmax(outcome.scores.astype(float), axis=1)
    assert record.score_kind == "logits"
    assert record.further["nll"].value == pytest.approx(
        log_loss(labels, expected, labels=range(10)), rel=2e-3
    )
    right = outcome.predictions["prediction"].to_numpy() == labels.to_numpy()
    assert record.further["ece"].value == pytest.approx(ece(expected.max(1), right, "logits").value, abs=5e-3)


def test_a_class_without_a_training_image_makes_the_nll_infinite():
    scores = torch.tensor([[0.0, 1.0, -1e30], [0.0, 1.0, -1e30]], dtype=torch.float64)
    found = answer(lambda x: scores, torch.zeros(2, 1), np.array([1, 2]), 3, "logits")
    assert np.isneginf(found.images.log_probability).tolist() == [False, True]


@pytest.mark.parametrize("keep", [False, True])
def test_blocks_change_nothing_and_bound_the_scores_held(monkeypatch, keep):
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(300, 4, generator=generator), torch.randn(4, 7, generator=generator)
    labels, seen = torch.randint(7, (300,), generator=generator).numpy(), []

    def head(block):
        seen.append(len(block))
        return (block[:, :, None] * w).sum(
            1
        )  # not a product of matrices, whose rounding depends on their sizes

    whole = answer(head, x, labels, 7, "logits", keep=keep)
    monkeypatch.setattr(answers, "MOST_SCORES", 7 * 64)
    parts = answer(head, x, labels, 7, "logits", keep=keep)
    assert seen == [300, 64, 64, 64, 64, 44]
    assert (parts.predictions == whole.predictions).all()
    for name in ("rank", "log_probability", "confidence"):
        assert (getattr(parts.images, name) == getattr(whole.images, name)).all()
    assert (parts.kept is None) == (not keep)
    assert not keep or (parts.kept == whole.kept).all()


def test_scores_in_bfloat16_are_read_as_they_are():
    scores = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.bfloat16)
    found = answer(lambda x: scores, torch.zeros(1, 1), np.array([2]), 3, "logits", keep=True)
    assert found.images.rank.tolist() == [2]
    assert found.kept.tolist() == [[-1.0, 0.0, -1.5]]


def with_rules(*rules):
    """Register `digits` scored by these rules."""
    task = TASKS.get("digits")[0].build()
    task.rules = rules
    TASKS.register("ruled")(lambda: task)


def half(predictions, split):
    """Right or wrong by the label, and every other image not counted."""
    return np.where(np.arange(len(split)) % 2, np.nan, predictions == split.labels)


@pytest.mark.usefixtures("registered")
def test_images_that_do_not_count_count_nowhere(worker):
    with_rules(ScoreRule("clear", half, by_label=True))
    outcome = run_job(make_job(task="ruled"), worker)
    rows = outcome.predictions[::2]
    found = outcome.record.further
    assert {metric.n for metric in found.values()} == {180} == {outcome.record.metrics["clear"].n}
    assert found["mean_per_class"].value == pytest.approx(
        balanced_accuracy_score(rows["label"], rows["prediction"])
    )


@pytest.mark.usefixtures("registered")
def test_a_task_that_is_not_scored_by_one_label_has_none_of_them(worker):
    with_rules(ScoreRule("near", lambda p, s: (abs(p - s.labels) < 2).astype(float)), TOP1)
    found = run_job(make_job(task="ruled"), worker).record.further
    assert {metric.value for metric in found.values()} == {None}
    assert {metric.note for metric in found.values()} == {
        "the task is scored by near, not by one label per image"
    }


@pytest.mark.usefixtures("registered")
def test_a_second_metric_takes_nothing_away(worker):
    with_rules(TOP1, ScoreRule("real", half))
    found = run_job(make_job(task="ruled"), worker).record
    assert found.further["mean_per_class"].n == 359
    assert found.metrics["real"].n == 180


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("kind", "nll"), [("logits", np.log(10)), ("votes", None), ("unknown", None), ("logit", None)]
)
def test_a_plugin_says_what_its_scores_are(worker, kind, nll):
    @dataclass(frozen=True)
    class Flat(Protocol):
        """All classes alike."""

        score_kind: ClassVar = kind

        def depends_on_seed(self, budget):
            return False

        def adapt(self, data):
            return Adapted(data.backbone, lambda z: torch.zeros(len(z), data.num_classes), False)

    PROTOCOLS.register("flat")(Flat)
    record = run_job(make_job(protocol=component("flat")), worker).record
    if kind == "logit":
        assert record.failure.message.startswith("Flat.score_kind is 'logit': allowed are logits, votes")
        return
    assert record.further["nll"].value == (nll and pytest.approx(nll))
    assert ("negative or all zero" in record.further["nll"].note) == (kind == "votes")
    assert record.further["top5"].value == (
        0 if kind == "votes" else pytest.approx((record.confusion and 180 / 359), abs=0.1)
    )


@pytest.mark.slow
def test_several_processes_hand_on_the_scores(tmp_path):
    worker = Worker("cpu", tmp_path, None, keep_scores=True)
    job = make_job(protocol=component("knn", k=3), limit=50)
    outcome = run_in_processes(job, worker, 2, [])
    one = run_job(job, worker)
    assert (outcome.scores == one.scores).all()
    assert outcome.record.further == one.record.further
