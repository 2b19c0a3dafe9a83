"""Results from hand to hand: whole, recomputed from their predictions, and harmless."""

import contextlib
import hashlib
import io
import zipfile

import numpy as np
import pytest

import vitbench
from vitbench.core.errors import UsageError
from vitbench.core.record import Metric
from vitbench.core.wilson import wilson
from vitbench.engine.run import run_suite
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack, unpack


@pytest.fixture
def packed(tiny, tmp_path):
    vitbench.run(tiny, tmp_path / "run")
    assert pack(tmp_path / "run", tmp_path / "s.zip") == 4
    return tmp_path / "s.zip"


def changed(path, change):
    """The same file with another content of its first record."""
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for other, data in change(name, old.read(name)):
                new.writestr(other, data)
    return target


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


def forged(packed, tmp_path, change, table=None):
    """The submission with its first record changed, and its predictions if `table` changes them; all digests fit."""
    first = max(load(tmp_path / "run"), key=lambda record: "-shot" in record.job.budget)
    rows = RunDir(tmp_path / "run").predictions(first)
    if table is not None:
        rows = table(rows)
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False)
    right = rows["top1_correct"].to_numpy(float)
    low, high = wilson(int(right.sum()), len(right))
    metrics = {"top1": Metric(value=right.mean(), ci_low=low, ci_high=high, n=len(right))}
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    record = first.model_copy(update={"metrics": metrics, "predictions_sha256": digest})
    record = change(record)
    contents = {
        f"records/{first.key}.json": encode(record),
        f"predictions/{first.key}.parquet": buffer.getvalue(),
    }
    return check(changed(packed, lambda name, data: [(name, contents.get(name, data))])), first.key


def same(record):
    return record


def once_right(rows):
    """One right example, as often as there were examples."""
    (row,) = rows[rows["prediction"] == rows["label"]][:1].to_dict("records")
    return rows.assign(**row)


def with_data(record, **facts):
    return record.model_copy(update={"data": record.data.model_copy(update=facts)})


FORGERIES = {
    "labels set to predictions": (
        lambda r: r.model_copy(update={"confusion": None}), lambda r: r.assign(label=r["prediction"], top1_correct=1.0),
        "labels differ from those of",
    ),
    "one example many times": (same, once_right, "counted more than once"),
    "correctness that labels do not give": (same, lambda r: r.assign(top1_correct=1.0), "differs from prediction == label"),
    "half points": (same, lambda r: r.assign(top1_correct=0.5), "values other than 0, 1"),
    "no metric": (lambda r: r.model_copy(update={"metrics": {}}), None, "has no metric"),
    "a limit that is said to be none": (
        lambda r: r.model_copy(update={"job": r.job.model_copy(update={"limit": 10})}), None, "key does not belong"
    ),
    "departures and a clean list": (
        lambda r: with_data(r, departures=("other images",)), None,
        "'data as the reference has them' holds; its job and data say",
    ),
    "fewer training images than shots": (
        lambda r: with_data(r, n_train=3), None, "'split' holds; its job and data say"
    ),
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
        packed, tmp_path, lambda r: r.model_copy(update={"confusion": None}),
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
