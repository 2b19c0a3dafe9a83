"""Further test sets: each scored from the one adapted model, after it, among its own classes."""

import numpy as np
import pytest
import torch

import vitbench
from tests.making.further_sets import SUITE, coloured, three_sets
from vitbench.api import ImageSource, Split, Task, TestSet
from vitbench.core.clusters import score_interval
from vitbench.core.errors import VitbenchError
from vitbench.engine.further_sets import Scorer, answer_among
from vitbench.engine.job import run_job
from vitbench.engine.worker import Worker
from vitbench.protocols.ridge_probe import RidgeProbe
from vitbench.store.run_dir import RunDir
from vitbench.tasks.folder import FolderTask


class Counted(ImageSource):
    """Images that are only counted."""

    fingerprint = "counted"

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def read(self, indices, *, fast_dct=False):
        raise AssertionError("features are made up")

    def name(self, index):
        return self.names[index]


def split_of(labels, names=None):
    labels = np.asarray(labels, dtype=np.int64)
    source = Counted(names or [f"x/{i}.png" for i in range(len(labels))])
    return Split(source, np.arange(len(labels)), labels)


def scorer(scores, test, classes=5, limit=None):
    """A scorer whose features are class scores: those of each split by its length, the head the identity."""
    return Scorer(
        lambda x: x, lambda split: scores[len(split)], classes, "logits", limit, test, scores[len(test)]
    )


def task_with(*sets):
    task = Task.of(["a", "b", "c", "d", "e"], lambda: None)
    task.further = sets
    return task


@pytest.fixture
def ran(tmp_path, suite_file):
    three_sets(tmp_path)
    suite = suite_file(SUITE.format(root=tmp_path))
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure is None
    return record, suite


def test_one_fit_scores_all_sets_as_a_fit_of_its_own_does(ran, tmp_path):
    record, _ = ran
    run = RunDir(tmp_path / "run")
    assert list(record.metrics) == ["top1", "night", "two"]
    assert {name: (facts.n, facts.classes) for name, facts in record.test_sets.items()} == {
        "night": (42, 3),
        "two": (18, 2),
    }
    for name, facts in record.test_sets.items():
        rows = run.predictions(record, test_set=name)
        right = (rows["label"] == rows["prediction"]).to_numpy()
        assert record.metrics[name].value == right.mean()
        assert (record.metrics[name].ci_low, record.metrics[name].ci_high) == score_interval(right)
        assert len(facts.fingerprints[""]) == 64
        assert facts.further["mean_per_class"].value == pytest.approx(
            rows.assign(right=right).groupby("label")["right"].mean().mean()
        )
    assert set(run.predictions(record, test_set="two")["prediction"]) <= {0, 2}
    assert record.test_sets["night"].in_distribution is None
    assert record.test_sets["two"].in_distribution.n == 20


def test_answers_are_the_best_of_the_sets_classes():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(50, 5)))
    classes = np.asarray([1, 3, 4])
    labels = classes[rng.integers(3, size=50)]
    found = answer_among(lambda x: x, scores, labels, classes, 5, "logits")
    expected = classes[scores.numpy()[:, classes].argmax(1)]
    assert found.predictions.tolist() == expected.tolist()
    with pytest.raises(VitbenchError, match="label 2 is not among"):
        answer_among(lambda x: x, scores, np.full(50, 2), classes, 5, "logits")


def test_in_distribution_is_of_the_same_classes_among_themselves():
    rng = np.random.default_rng(1)
    test, few = split_of(rng.integers(5, size=60)), split_of(np.asarray([0, 4] * 10))
    scores = {60: torch.from_numpy(rng.normal(size=(60, 5))), 20: torch.from_numpy(rng.normal(size=(20, 5)))}
    (found,) = scorer(scores, test).scored(task_with(TestSet("few", {"": lambda: few}, (0, 4))))
    own = np.isin(test.labels, (0, 4))
    best = np.asarray([0, 4])[scores[60].numpy()[own][:, [0, 4]].argmax(1)]
    assert found.facts.in_distribution.value == (best == test.labels[own]).mean()
    assert found.facts.in_distribution.n == own.sum()
    assert found.facts.further["mean_per_class"].n == 20


def test_images_of_one_name_in_several_parts_belong_together():
    names = [f"{i}.png" for i in range(30)]
    rng = np.random.default_rng(2)
    labels = rng.integers(5, size=30)
    parts = {f"fog_{k}": split_of(labels, [f"fog/{k}/n/{name}" for name in names]) for k in (1, 2)}
    test = split_of([0, 1, 2])
    scores = {30: torch.from_numpy(rng.normal(size=(30, 5))), 3: torch.eye(5)[:3]}
    openers = {name: (lambda own=own: own) for name, own in parts.items()}
    (found,) = scorer(scores, test).scored(
        task_with(TestSet("c", openers, reference_errors={"fog": 0.8}, size=29))
    )
    assert (found.metric.n, found.metric.clusters) == (60, 30)
    assert found.metric.ci_high - found.metric.ci_low > score_gap(
        found.metric.value, 60
    )  # both are equally right
    errors = [1 - part.value for part in found.facts.parts.values()]
    assert found.facts.relative_error == pytest.approx(np.mean(errors) / 0.8)
    assert found.facts.departures == tuple(f"c fog_{k} has 30 images, the reference 29" for k in (1, 2))
    assert found.table.columns.tolist() == [
        "part",
        "index",
        "name",
        "label",
        "prediction",
        "cluster",
        "c_correct",
    ]


def score_gap(value, n):
    right = np.zeros(n)
    right[: round(value * n)] = 1
    low, high = score_interval(right)
    return high - low


def test_a_limit_holds_for_every_set():
    test = split_of(range(5))
    scores = {5: torch.eye(5), 4: torch.eye(5)[:4], 40: None}
    (found,) = scorer(scores, test, limit=4).scored(
        task_with(TestSet("big", {"": lambda: split_of([0, 1] * 20)}, size=40))
    )
    assert (found.facts.n, found.facts.departures) == (4, ())


@pytest.mark.parametrize("name", ["top1", "Night", "a b", "", "../x"])
def test_a_name_that_files_or_metrics_cannot_have_is_refused(name):
    test = split_of(range(5))
    with pytest.raises(VitbenchError, match="cannot be named"):
        list(scorer({5: torch.eye(5)}, test).scored(task_with(TestSet(name, {"": lambda: test}))))


def test_no_set_is_opened_before_the_model_is_frozen(ran, tmp_path, monkeypatch):
    record, _ = ran
    events = []
    open_, adapt = FolderTask._open, RidgeProbe.adapt
    monkeypatch.setattr(FolderTask, "_open", lambda *given: events.append("opened") or open_(*given))
    monkeypatch.setattr(RidgeProbe, "adapt", lambda *given: (adapt(*given), events.append("adapted"))[0])
    outcome = run_job(record.job, Worker("cpu", tmp_path / "cache"))
    assert events == ["adapted", "opened", "opened"]
    assert outcome.record.metrics == record.metrics


def test_other_images_make_another_job_and_a_moved_folder_does_not(ran, tmp_path, suite_file):
    record, _ = ran
    (tmp_path / "night").rename(tmp_path / "dark")
    moved = SUITE.format(root=tmp_path).replace(f"{tmp_path}/night", f"{tmp_path}/dark")
    (again,) = vitbench.run(suite_file(moved), tmp_path / "run")
    assert (again.key, again.created) == (record.key, record.created)
    coloured(tmp_path / "more", 3, 20)
    other = moved.replace(f"{tmp_path}/dark", f"{tmp_path}/more")
    (changed,) = vitbench.run(suite_file(other), tmp_path / "run2")
    assert changed.key != record.key


def test_a_task_without_sets_keeps_its_key(ran, tmp_path, suite_file):
    record, _ = ran
    plain = SUITE.format(root=tmp_path).replace(
        f", test_sets: {{night: {tmp_path}/night, two: {tmp_path}/two}}", ""
    )
    (bare,) = vitbench.run(suite_file(plain), tmp_path / "plain")
    assert "test_sets" not in bare.job.task.options
    assert bare.metrics["top1"] == record.metrics["top1"]


def test_a_damaged_file_of_a_sets_predictions_repeats_the_job(ran, tmp_path):
    record, suite = ran
    path = RunDir(tmp_path / "run").predictions_path(record.key, "night")
    path.write_bytes(path.read_bytes()[:-5])
    (again,) = vitbench.run(suite, tmp_path / "run")
    assert RunDir(tmp_path / "run").is_whole(again)
    assert again.metrics == record.metrics


def test_a_class_that_train_does_not_have_is_refused(tmp_path, suite_file):
    three_sets(tmp_path)
    (tmp_path / "night" / "dog").rename(tmp_path / "night" / "emu")
    with pytest.raises(VitbenchError, match="classes that train does not have"):
        vitbench.run(suite_file(SUITE.format(root=tmp_path)), tmp_path / "run")
