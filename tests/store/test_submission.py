"""Results from hand to hand: whole, recomputed from their predictions, and harmless."""

import contextlib
import re
import zipfile

import numpy as np
import pytest

import vitbench
from tests.making.forged import changed, forged, same, with_data
from vitbench.core.errors import UsageError
from vitbench.core.record import Confusion, Metric
from vitbench.engine.run import run_suite
from vitbench.store.merge import merge
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack, unpack


@pytest.fixture
def packed(tiny, tmp_path):
    vitbench.run(tiny, tmp_path / "run")
    assert pack(tmp_path / "run", tmp_path / "s.zip") == 4
    return tmp_path / "s.zip"


def test_what_is_packed_is_unpacked_and_done(packed, tiny, tmp_path):
    found = check(packed)
    assert (len(found.records), found.problems) == (4, ())
    unpack(found, tmp_path / "other")
    assert load(tmp_path / "other") == load(tmp_path / "run")
    assert vitbench.run(tiny, tmp_path / "other") == vitbench.run(tiny, tmp_path / "run")


def test_the_same_run_makes_the_same_file(packed, tmp_path):
    pack(tmp_path / "run", tmp_path / "again.zip")
    assert packed.read_bytes() == (tmp_path / "again.zip").read_bytes()


def test_a_score_that_the_predictions_do_not_give_is_told(packed, tmp_path):
    record = load(tmp_path / "run")[0]
    better = record.model_copy(
        update={"metrics": {"top1": Metric(value=0.99, ci_low=0.98, ci_high=1, n=360)}}
    )
    path = changed(
        packed, lambda name, data: [(name, encode(better) if name == f"records/{record.key}.json" else data)]
    )
    assert any(
        "stated as 0.9900 (n = 360), but the predictions give" in text for text in check(path).problems
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda name, data: [(name, data[:-3] if name.startswith("records") else data)],
            "SHA-256 mismatch",
        ),
        (
            lambda name, data: [] if name.startswith("predictions") else [(name, data)],
            "predictions are missing",
        ),
        (lambda name, data: [(f"../../{name}", data)], "does not belong in a submission"),
        (
            lambda name, data: [(name, data), (name.replace(".json", ".py"), b"import os")][
                : 1 + name.startswith("records")
            ],
            "does not belong in a submission",
        ),
        (
            lambda name, data: [(name.replace("records/", "records/f"), data)],
            "does not belong in a submission",
        ),
    ],
)
def test_what_is_wrong_is_named_and_never_written(packed, tmp_path, change, said):
    found = check(changed(packed, change))
    assert any(said in text for text in found.problems)
    with contextlib.suppress(UsageError):  # no valid record is left
        unpack(found, tmp_path / "deep" / "er" / "out")
    written = {path.suffix for path in (tmp_path / "deep").rglob("*") if path.is_file()}
    assert ".py" not in written
    assert not (tmp_path / "records").exists()


def test_bombs_and_other_files_are_refused(tmp_path, monkeypatch):
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UsageError, match=r"not a submission[\s\S]*vitbench pack"):
        check(tmp_path / "no.zip")
    monkeypatch.setattr("vitbench.store.submission.MOST_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("env.json", bytes(2 << 20))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(UsageError, match="would unpack to"):
        check(tmp_path / "bomb.zip")


def test_damaged_runs_are_not_packed(packed, tmp_path):
    run = RunDir(tmp_path / "run")
    path = run.predictions_path(load(tmp_path / "run")[0].key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=path.name):
        pack(tmp_path / "run", tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_a_damaged_submission_is_an_error_or_checked(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    pack(tmp_path / "run", tmp_path / "s.zip")
    data = (tmp_path / "s.zip").read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        harmed = bytearray(data)
        harmed[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        (tmp_path / "harmed.zip").write_bytes(bytes(harmed))
        try:
            found = check(tmp_path / "harmed.zip")
        except UsageError:
            continue
        assert len(found.records) <= 4
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("env.json", b"0" * 200_000_000)
    with pytest.raises(UsageError, match="would unpack to 200,000,000"):
        check(tmp_path / "bomb.zip")


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


def test_another_size_than_the_data_sets_needs_a_departure(clevr, tmp_path):
    found, _ = forged(clevr, tmp_path, lambda r: with_data(r, departures=()))
    assert re.search(
        r"it has \d+ test examples, vtab/clevr_\w+( with a limit of 10)? has (15,000|10)", found.problems[0]
    )


def test_labels_are_those_of_the_run_that_is_merged_into(packed, tmp_path):
    def change(record):
        return record.model_copy(update={"confusion": None, "worst": ()})

    _, key = forged(packed, tmp_path, change, lambda r: r.assign(label=r["prediction"], top1_correct=1.0))
    (tmp_path / "changed.zip").rename(tmp_path / "all.zip")
    others = {f"records/{record.key}.json" for record in load(tmp_path / "run") if record.key != key}
    one = changed(tmp_path / "all.zip", lambda name, data: [(name, data)] if name not in others else [])
    assert check(one).problems == ()
    assert "its test labels differ from those of" in check(one, beside=tmp_path / "run").problems[0]


def test_unpacking_merges_into_a_run_and_replaces_nothing_of_it(packed, tiny, tmp_path):
    kept = (tmp_path / "run" / "suite.lock.yaml").read_bytes(), (tmp_path / "run" / "env.json").read_bytes()
    before = load(tmp_path / "run")
    assert unpack(check(packed), tmp_path / "run") == len(before)
    assert load(tmp_path / "run") == before
    assert kept == (
        (tmp_path / "run" / "suite.lock.yaml").read_bytes(),
        (tmp_path / "run" / "env.json").read_bytes(),
    )
    found, key = forged(
        packed, tmp_path, lambda r: r.model_copy(update={"confusion": None, "worst": ()}),
        lambda r: r.assign(prediction=r["label"], top1_correct=1.0),
    )  # fmt: skip
    assert key in {
        record.key for record in found.records
    }  # predictions rewritten together with all else: not to be told
    with pytest.raises(UsageError, match="two different results"):
        unpack(found, tmp_path / "run")
    assert load(tmp_path / "run") == before


def test_a_submission_without_a_valid_record_writes_nothing(packed, tmp_path):
    empty = check(changed(packed, lambda name, data: [] if name.startswith("records") else [(name, data)]))
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    for out in (tmp_path / "run", tmp_path / "new"):
        with pytest.raises(UsageError, match="no valid record"):
            unpack(empty, out)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert not (tmp_path / "new").exists()
