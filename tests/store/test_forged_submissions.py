"""Records whose digests all fit, and whose contents do not: refused, each with its reason."""

import re

import pytest

import vitbench
from tests.making.forged import changed, forged, same, with_data
from vitbench.core.record import Confusion
from vitbench.store.merge import merge
from vitbench.store.record_file import load
from vitbench.store.submission import check, pack


def once_right(rows):
    """One right example, as often as there were examples."""
    (row,) = rows[rows["prediction"] == rows["label"]][:1].to_dict("records")
    return rows.assign(**row)


FORGERIES = {
    "labels set to predictions": (
        lambda r: r.model_copy(update={"confusion": None, "worst": ()}),
        lambda r: r.assign(label=r["prediction"], top1_correct=1.0),
        "labels differ from those of",
    ),
    "one example many times": (same, once_right, "counted more than once"),
    "correctness that labels do not give": (same, lambda r: r.assign(top1_correct=1.0), "differs from prediction == label"),
    "a metric that is left out": (
        lambda r: r.model_copy(update={"metrics": {}}), None, "top1_correct, which is not among its metrics"
    ),
    "half points": (same, lambda r: r.assign(top1_correct=0.5), "values other than 0, 1"),
    "no metric": (lambda r: r.model_copy(update={"metrics": {}}), None, "has no metric"),
    "a limit that is said to be none": (
        lambda r: r.model_copy(update={"job": r.job.model_copy(update={"limit": 10})}), None, "key does not belong"
    ),
    "departures and a clean list": (
        lambda r: with_data(r, departures=("other images",)), None,
        "'data as the reference has them' holds; its job and data say",
    ),
    "a failing item that is left out": (
        lambda r: r.model_copy(update={"conformance": r.conformance[1:]}), None,
        "it does not state whether 'not limited' holds",
    ),
    "fewer training images than shots": (
        lambda r: with_data(r, n_train=3), None, "'split' holds; its job and data say"
    ),
    "a smaller test set": (
        lambda r: with_data(r, n_test=300).model_copy(update={"confusion": None, "worst": ()}), lambda r: r[:300],
        "it has 300 test examples, digits has 359",
    ),
    "a smaller test set that is called a departure": (
        lambda r: with_data(r, n_test=300, departures=("fewer",)).model_copy(update={"confusion": None, "worst": ()}),
        lambda r: r[:300], "it has 300 test examples, digits has 359",
    ),
    "another data set, which no weights have seen": (
        lambda r: with_data(r, dataset="mine"), None, "its dataset is 'mine', that of digits is ''"
    ),
    "another group": (lambda r: with_data(r, group="natural"), None, "its group is 'natural', that of digits is 'quickstart'"),
    "fewer classes": (lambda r: with_data(r, num_classes=3), None, "its labels range from 0 to 9, its task has 3 classes"),
    "the name of another task": (
        lambda r: r.model_copy(
            update={"job": r.job.model_copy(update={"task": r.job.task.model_copy(update={"label": "vtab/pets"})})}
        ), None, "its task 'digits' goes by the name of another task, 'vtab/pets'",
    ),
    "another main metric": (
        lambda r: r.model_copy(update={"metrics": {"own": r.metrics["top1"], **r.metrics}}),
        lambda r: r.assign(own_correct=r["top1_correct"]), "its first metric is not top1",
    ),
    "errors that are none": (lambda r: r.model_copy(update={"worst": (359,)}), None, "worst errors that are no errors"),
    "a matrix of fewer classes": (
        lambda r: r.model_copy(update={"confusion": r.confusion.model_copy(update={"matrix": ((1,),)})}), None,
        "confusion matrix is not",
    ),
    "a list of confusions of its own": (
        lambda r: r.model_copy(update={"confusion": Confusion(mistakes=(("3", "8", 1),))}), None, "confusion matrix is not",
    ),
    "no confusions": (lambda r: r.model_copy(update={"confusion": Confusion()}), None, "confusion matrix is not"),
    "a matrix of its own": (
        lambda r: r.model_copy(update={"confusion": r.confusion.model_copy(update={"matrix": ((1,) * 10,) * 10})}), None,
        "confusion matrix is not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_forged_is_recomputed_told_and_left_out(forgery, packed, tmp_path):
    change, table, said = FORGERIES[forgery]
    found, key = forged(packed, tmp_path, change, table)
    problems = "\n".join(found.problems)
    assert said in problems
    if forgery != "labels set to predictions":  # which of two is forged, nobody can tell
        assert {record.key for record in found.records} == {r.key for r in load(tmp_path / "run")} - {key}


def test_an_honest_submission_has_no_problem(packed, tmp_path):
    found, _ = forged(packed, tmp_path, same)
    assert found.problems == ()


@pytest.fixture
def clevr(suite_file, data_dir, tmp_path):
    """A submission of two tasks on the same images, with and without a limit, merged into one run."""
    suite = suite_file(
        "name: two\nbudgets: [full]\nbackbones: [{name: raw_pixels, size_px: 8}]\nprotocols: [knn]\n"
        "tasks: [vtab/clevr_count, vtab/clevr_distance]\n"
    )
    vitbench.run(suite, tmp_path / "run", seeds=[0])
    vitbench.run(suite, tmp_path / "limited", seeds=[0], limit=10)
    merge([tmp_path / "limited"], tmp_path / "run")
    pack(tmp_path / "run", tmp_path / "s.zip")
    return tmp_path / "s.zip"


def test_tasks_on_the_same_images_and_limits_have_labels_of_their_own(clevr, tmp_path):
    found = check(clevr, beside=tmp_path / "run")
    assert (len(found.records), found.problems) == (4, ())
    assert not any(record.conformant for record in found.records)  # miniatures: they say how they depart


@pytest.fixture(scope="module")
def confusions(tmp_path_factory, prepared):
    """A run on a task of 37 classes, whose records have the most frequent confusions instead of a matrix."""
    folder = tmp_path_factory.mktemp("pets")
    (folder / "pets.yaml").write_text(
        "name: pets\nbudgets: [full]\nbackbones: [{name: raw_pixels, size_px: 8}]\nprotocols: [knn]\ntasks: [vtab/pets]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(prepared))
        vitbench.run(folder / "pets.yaml", folder / "run", seeds=[0])
    pack(folder / "run", folder / "s.zip")
    return folder


MISTAKES = {
    "as they are": (lambda mistakes: mistakes, []),
    "none": (lambda mistakes: (), ["confusion matrix is not"]),
    "fewer": (lambda mistakes: tuple((*m[:2], m[2] - 1) for m in mistakes), ["confusion matrix is not"]),
    "of other classes": (
        lambda mistakes: tuple((f"{i}", *m[1:]) for i, m in enumerate(mistakes)), ["confusion matrix is not"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", MISTAKES)
def test_the_most_frequent_confusions_are_those_of_the_predictions(confusions, change):
    other, said = MISTAKES[change]
    (record,) = load(confusions / "run")
    assert len(record.confusion.mistakes) == 20
    wrong = record.confusion.model_copy(update={"mistakes": other(record.confusion.mistakes)})
    found, _ = forged(confusions / "s.zip", confusions, lambda r: r.model_copy(update={"confusion": wrong}))
    assert [text for text in said if text not in found.problems[0]] == []
    assert len(found.problems) == len(said)


def test_another_size_than_the_data_sets_needs_a_departure(clevr, tmp_path):
    whole = lambda record: record.job.limit is None  # noqa: E731
    found, _ = forged(clevr, tmp_path, lambda r: with_data(r, departures=()), which=whole)
    assert re.search(r"it has 40 test examples, vtab/clevr_\w+ has 15,000", found.problems[0])


def test_labels_are_those_of_the_run_that_is_merged_into(packed, tmp_path):
    def change(record):
        return record.model_copy(update={"confusion": None, "worst": ()})

    _, key = forged(packed, tmp_path, change, lambda r: r.assign(label=r["prediction"], top1_correct=1.0))
    (tmp_path / "changed.zip").rename(tmp_path / "all.zip")
    others = {f"records/{record.key}.json" for record in load(tmp_path / "run") if record.key != key}
    one = changed(tmp_path / "all.zip", lambda name, data: [(name, data)] if name not in others else [])
    assert check(one).problems == ()
    assert "its test labels differ from those of" in check(one, beside=tmp_path / "run").problems[0]
