"""Labels that were handed in, against the test data of this machine."""

import pytest

import vitbench
from tests.making.forged import forged, same, with_data
from vitbench.core.record import Metric
from vitbench.core.wilson import wilson
from vitbench.engine.local_labels import compare_labels
from vitbench.store.submission import check, pack

SUITE = """
name: two
budgets: [full]
backbones: [{name: raw_pixels, size_px: 8}]
protocols: [knn]
tasks: [digits, imagenet, vtab/clevr_count]
"""


@pytest.fixture
def packed(suite_file, data_dir, tmp_path):
    vitbench.run(suite_file(SUITE), tmp_path / "run", seeds=[0], limit=30)
    pack(tmp_path / "run", tmp_path / "s.zip")
    return tmp_path / "s.zip"


def of_task(name):
    return lambda record: record.job.task.name == name


def bare(record):
    return record.model_copy(update={"confusion": None, "worst": ()})


def all_right(rows):
    """Every label set to what was predicted."""
    return rows.assign(label=rows["prediction"], top1_correct=1.0)


def test_honest_labels_agree_under_a_limit_too(packed):
    compared = compare_labels(check(packed))
    assert (compared.agreeing, compared.problems, compared.unchecked) == (3, {}, {})


@pytest.mark.parametrize("task", ["digits", "vtab/clevr_count"])
def test_labels_set_to_predictions_are_found_without_another_record(packed, tmp_path, task):
    found, key = forged(packed, tmp_path, bare, all_right, of_task(task))
    assert found.problems == ()
    compared = compare_labels(found)
    assert f"test labels are not those of {task} here" in compared.problems[key]
    assert compared.agreeing == 2


def test_correctness_by_labels_that_are_not_in_the_predictions_is_recomputed(packed, tmp_path):
    """ReaL labels."""

    def change(record):
        metrics = {**record.metrics, "real": Metric(value=1, ci_low=wilson(30, 30)[0], ci_high=1, n=30)}
        return record.model_copy(update={"metrics": metrics})

    found, key = forged(packed, tmp_path, change, lambda r: r.assign(real_correct=1.0), of_task("imagenet"))
    assert found.problems == ()
    assert compare_labels(found).problems == {key: "its real_correct is not what imagenet gives here"}


def test_digits_need_no_fingerprint(packed, tmp_path):
    """Their labels come with a package, however a record calls the images."""
    found, key = forged(
        packed, tmp_path, lambda r: with_data(bare(r), fingerprints={"test": "mine"}), all_right, of_task("digits")
    )  # fmt: skip
    assert "test labels are not those" in compare_labels(found).problems[key]


def test_examples_that_are_not_the_tasks_are_found(packed, tmp_path):
    found, key = forged(packed, tmp_path, same, lambda r: r.assign(index=r["index"] + 1), of_task("digits"))
    assert compare_labels(found).problems == {key: "its test examples are not those of digits here"}


def test_what_is_not_compared_is_counted_by_reason(packed, tmp_path, monkeypatch):
    found, _ = forged(
        packed, tmp_path, lambda r: with_data(r, fingerprints={"test": "mine"}), None, of_task("vtab/clevr_count")
    )  # fmt: skip
    assert compare_labels(found).unchecked == {"the test images of vtab/clevr_count are others here": 1}
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    compared = compare_labels(check(packed))
    assert compared.agreeing == 1
    assert sorted(reason.split(" is not prepared")[0] for reason in compared.unchecked) == [
        "data set clevr", "data set imagenet2012",
    ]  # fmt: skip


def test_a_submitters_folder_is_not_opened(suite_file, tmp_path):
    from PIL import Image

    for name in "ab":
        (tmp_path / "own" / "train" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (8, 8), (i, 0, ord(name))).save(tmp_path / "own" / "train" / name / f"{i}.png")
    text = SUITE.replace(
        "[digits, imagenet, vtab/clevr_count]", f"[{{name: own, source: folder, path: {tmp_path}/own}}]"
    )
    vitbench.run(suite_file(text), tmp_path / "run", seeds=[0])
    pack(tmp_path / "run", tmp_path / "s.zip")
    found = check(tmp_path / "s.zip")
    assert (len(found.records), found.problems) == (1, ())  # of any size
    assert compare_labels(found).unchecked == {"the data of folder are files of the submitter's": 1}
