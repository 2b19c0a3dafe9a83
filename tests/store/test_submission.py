"""Results from hand to hand: whole, recomputed from their predictions, and harmless."""

import contextlib
import zipfile

import numpy as np
import pytest

import vitbench
from tests.making.forged import changed, forged
from vitbench.core.errors import UsageError
from vitbench.core.record import Metric
from vitbench.engine.run import run_suite
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack, unpack


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
