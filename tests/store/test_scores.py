"""Class scores that are kept: readable, whole, of the shape that the record states, wherever predictions are."""

import io
import shutil
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.class_scores import further_metrics, reduce_scores
from vitbench.core.errors import UsageError
from vitbench.engine.run import RunOptions, plan_suite, run_suite
from vitbench.store.merge import merge
from vitbench.store.prune import unasked
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.scores import decode_scores, encode_scores
from vitbench.store.submission import check, pack, unpack
from vitbench.suite import Overrides

KEPT = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float16)


@pytest.fixture
def kept(tiny, tmp_path):
    """The tiny suite's run directory with class scores."""
    vitbench.run(tiny, tmp_path / "run", keep_scores=True)
    return RunDir(tmp_path / "run")


def test_what_is_written_is_read_by_us_and_by_pandas(tmp_path):
    data = encode_scores(KEPT)
    assert (decode_scores(data, 20, 7) == KEPT).all()
    (tmp_path / "x.parquet").write_bytes(data)
    assert (np.stack(pd.read_parquet(tmp_path / "x.parquet")["scores"]) == KEPT).all()
    endless = KEPT.copy()
    endless[0, 0] = -np.inf
    assert (decode_scores(encode_scores(endless), 20, 7) == endless).all()


def parquet(column, **how):
    buffer = io.BytesIO()
    pq.write_table(pa.table(column), buffer, **how)
    return buffer.getvalue()


def listed(values, width):
    return pa.FixedSizeListArray.from_arrays(pa.array(values), width)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encode_scores(KEPT)[:-9], "not readable"),
        (b"", "not readable"),
        (encode_scores(KEPT[:19]), "scores of 19 examples for 20"),
        (encode_scores(KEPT[:, :6]), "not one of 7 float16 numbers"),
        (parquet({"scores": listed(KEPT.astype(np.float32).ravel(), 7)}), "not one of 7 float16"),
        (parquet({"other": listed(KEPT.ravel(), 7)}), "not one of 7 float16"),
        (parquet({"scores": listed(np.zeros(140, np.float16), 7)}), "stored in a dictionary"),
        (encode_scores(np.full((20, 7), np.nan, np.float16)), "not numbers"),
    ],
)
def test_another_file_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        decode_scores(data, 20, 7)


def test_kept_scores_give_the_records_metrics(kept):
    for record in load(kept.path):
        scores, rows = kept.scores(record), kept.predictions(record)
        label, predicted = rows["label"].to_numpy(), rows["prediction"].to_numpy()
        assert scores.shape == (len(rows), 10)
        assert (scores[np.arange(len(rows)), predicted] == scores.max(1)).all()
        again = further_metrics(
            reduce_scores(scores, label, record.score_kind), label == predicted, label, 10, record.score_kind
        )
        for name, metric in record.further.items():
            assert (metric.value is None) == (again[name].value is None)
            assert metric.value is None or again[name].value == pytest.approx(metric.value, abs=6e-3)


def test_nothing_else_of_a_record_depends_on_keeping_scores(kept, tiny, tmp_path):
    plain = vitbench.run(tiny, tmp_path / "plain")
    assert not (tmp_path / "plain" / "scores").exists()
    for one, other in zip(load(kept.path), sorted(plain, key=lambda r: r.key), strict=True):
        changes = {"cost": None, "created": "", "scores_sha256": ""}
        assert one.scores_sha256
        assert one.model_copy(update=changes) == other.model_copy(update=changes)


@pytest.mark.slow
def test_two_workers_keep_the_same_scores(kept, tiny, tmp_path):
    vitbench.run(tiny, tmp_path / "two", keep_scores=True, workers=2)
    digests = [
        [(r.key, r.scores_sha256, r.further) for r in load(path)] for path in (kept.path, tmp_path / "two")
    ]
    assert digests[0] == digests[1]


def test_finished_jobs_run_again_for_their_scores_and_then_no_more(tiny, tmp_path):
    assert run_suite(str(tiny), tmp_path / "run").ran == 4
    again = command("run", tiny, "--out", tmp_path / "run", "--keep-scores")
    assert "4 finished jobs run again: their class scores were not kept" in again.stderr
    run = RunDir(tmp_path / "run")
    assert all(run.has_scores(record) for record in load(run.path))
    assert run_suite(str(tiny), run.path, options=RunOptions(keep_scores=True)).ran == 0
    assert run_suite(str(tiny), run.path).ran == 0
    assert run_suite(str(tiny), run.path, options=RunOptions(force=True)).ran == 4
    assert not list((run.path / "scores").iterdir())  # of results that were replaced


def test_scores_that_are_missing_or_damaged_are_said(kept):
    record = load(kept.path)[0]
    path = kept.scores_path(record.key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="damaged"):
        kept.scores(record)
    with pytest.raises(UsageError, match="damaged"):
        merge([kept.path], kept.path.parent / "m")
    path.unlink()
    with pytest.raises(UsageError, match="No such file"):
        kept.scores(record)
    with pytest.raises(UsageError, match="were not kept"):
        kept.scores(record.model_copy(update={"scores_sha256": ""}))


@pytest.mark.parametrize("order", [("bare", "run"), ("run", "bare")])
def test_merging_keeps_the_scores(kept, tmp_path, order):
    shutil.copytree(kept.path, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "scores")
    merge([tmp_path / name for name in order], tmp_path / "out")
    assert all(RunDir(tmp_path / "out").scores(record).shape[1] == 10 for record in load(tmp_path / "out"))


def test_pruning_deletes_the_scores_too(kept, tiny):
    tiny.write_text(tiny.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    jobs = plan_suite(str(tiny), kept.path, Overrides()).suite.jobs
    assert [path.parent.name for path in unasked(kept, jobs)].count("scores") == 1


def test_packed_with_their_scores_or_without(kept, tmp_path):
    pack(kept.path, tmp_path / "s.zip")
    found = check(tmp_path / "s.zip")
    assert (len(found.records), found.problems) == (4, ())
    assert all(map(found.has_scores, found.records))
    unpack(found, tmp_path / "other")
    assert all(RunDir(tmp_path / "other").has_scores(record) for record in load(tmp_path / "other"))
    pack(kept.path, tmp_path / "without.zip", with_scores=False)
    assert not [name for name in zipfile.ZipFile(tmp_path / "without.zip").namelist() if "scores" in name]
    without = check(tmp_path / "without.zip")
    assert (len(without.records), without.problems) == (4, ())


def test_scores_too_large_for_a_submission_are_refused_with_the_way_out(kept, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.store.submission.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="are too large for a submission") as error:
        pack(kept.path, tmp_path / "s.zip")
    assert "--without-scores" in str(error.value)
