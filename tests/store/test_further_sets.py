"""Predictions of further test sets in merged runs and in submissions."""

import hashlib
import io

import pytest

import vitbench
from tests.making.forged import changed
from tests.making.further_sets import SUITE, three_sets
from vitbench.core.errors import UsageError
from vitbench.store.merge import merge, without_predictions
from vitbench.store.prune import unasked
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack, unpack


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = three_sets(tmp_path_factory.mktemp("sets"))
    suite = root / "suite.yaml"
    suite.write_text(SUITE.format(root=root))
    vitbench.run(suite, root / "run")
    return root / "run"


@pytest.fixture
def packed(run, tmp_path):
    pack(run, tmp_path / "s.zip")
    return tmp_path / "s.zip"


def test_they_are_merged_along(run, tmp_path):
    merge([run], tmp_path / "both")
    assert without_predictions(tmp_path / "both") == 0
    (record,) = load(tmp_path / "both")
    assert RunDir(tmp_path / "both").is_whole(record)
    merge([run, tmp_path / "both"], tmp_path / "third")
    RunDir(tmp_path / "both").predictions_path(record.key, "two").unlink()
    assert without_predictions(tmp_path / "both") == 1
    merge([tmp_path / "both", run], tmp_path / "fourth")  # the whole one is preferred
    assert without_predictions(tmp_path / "fourth") == 0


def test_runs_that_differ_on_a_further_set_alone_are_not_merged(run, tmp_path):
    (record,) = load(run)
    other = RunDir(tmp_path / "other")
    tables = {name: RunDir(run).predictions(record, test_set=name) for name in ("", *record.test_sets)}
    own, two = tables.pop(""), tables["two"].copy()
    two["prediction"] = 2 - two["prediction"]
    other.write(record, own, further={**tables, "two": two})
    with pytest.raises(UsageError, match="two different results"):
        merge([run, tmp_path / "other"], tmp_path / "both")


def test_what_is_packed_is_unpacked(packed, run, tmp_path):
    found = check(packed)
    assert found.problems == ()
    unpack(found, tmp_path / "out")
    assert load(tmp_path / "out") == load(run)
    assert RunDir(tmp_path / "out").is_whole(load(run)[0])


def test_a_submission_without_one_is_refused(packed):
    path = changed(packed, lambda name, data: [] if name.endswith(".two.parquet") else [(name, data)])
    assert any("predictions are missing" in text for text in check(path).problems)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.assign(two_correct=1.0), "two_correct differs from prediction == label"),
        (lambda rows: rows.assign(index=0), "counted more than once"),
        (
            lambda rows: rows.assign(prediction=rows["label"], two_correct=1.0),
            "two is stated as 0.",
        ),
    ],
)
def test_scores_of_further_sets_are_recomputed(packed, run, spoil, said):
    (record,) = load(run)
    rows = spoil(RunDir(run).predictions(record, test_set="two"))
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    facts = {
        **record.test_sets,
        "two": record.test_sets["two"].model_copy(update={"predictions_sha256": digest}),
    }
    new = {
        f"records/{record.key}.json": encode(record.model_copy(update={"test_sets": facts})),
        f"predictions/{record.key}.two.parquet": buffer.getvalue(),
    }
    path = changed(packed, lambda name, data: [(name, new.get(name, data))])
    assert any(said in text for text in check(path).problems), check(path).problems


def test_they_are_pruned_along(run):
    (record,) = load(run)
    names = {path.name for path in unasked(RunDir(run), [])}
    assert {f"{record.key}.parquet", f"{record.key}.night.parquet", f"{record.key}.two.parquet"} <= names


def test_a_set_without_its_score_is_told(packed, run):
    (record,) = load(run)
    less = record.model_copy(update={"metrics": {k: v for k, v in record.metrics.items() if k != "two"}})
    path = changed(packed, lambda name, data: [(name, encode(less) if name.startswith("records") else data)])
    assert any("the test set two has no score" in text for text in check(path).problems)
