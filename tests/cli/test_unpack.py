"""`vitbench unpack` says what it has checked, what not, and ends with 1 where something does not hold."""

import re

import vitbench as package
from tests.making.command import imported, vitbench
from tests.making.forged import forged
from vitbench.store.record_file import load
from vitbench.store.submission import pack


def bare(record):
    return record.model_copy(update={"confusion": None, "worst": ()})


def test_an_honest_submission_is_checked_run_again_and_unpacked(packed, tmp_path):
    done = vitbench("unpack", packed, "--out", tmp_path / "new", "--rerun", "3", "--rerun-seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 records, 0 conformant, no problems found" in done.stdout
    assert (
        "checked for 4 of 4 scores: the number of test examples is the task's; not known for 0" in done.stderr
    )
    assert "checked for 4 scores: labels and correctness are those of the test data here" in done.stderr
    assert "run again: 3 of 4 jobs, chosen with --rerun-seed 5" in done.stderr
    assert done.stderr.count("seed 0: equal") + done.stderr.count("seed 1: equal") == 3
    assert re.search(r"A SHA-256 is no signature: .* cannot be told from honest ones", done.stderr)
    assert load(tmp_path / "new") == load(tmp_path / "run")


def test_rewritten_predictions_end_with_1_and_are_left_out(packed, tmp_path):
    _, key = forged(packed, tmp_path, bare, lambda r: r.assign(prediction=r["label"], top1_correct=1.0))
    assert vitbench("unpack", tmp_path / "changed.zip", "--check").returncode == 0  # not to be told
    done = vitbench("unpack", tmp_path / "changed.zip", "--out", tmp_path / "new", "--rerun", "4")
    assert done.returncode == 1
    assert f"problem: records/{key}.json: run again here: " in done.stdout
    assert key not in {record.key for record in load(tmp_path / "new")}
    assert len(load(tmp_path / "new")) == 3


def test_labels_of_the_submitters_own_end_with_1(packed, tmp_path):
    forged(packed, tmp_path, bare, lambda r: r.assign(label=r["prediction"], top1_correct=1.0))
    done = vitbench("unpack", tmp_path / "changed.zip", "--check")
    assert done.returncode == 1
    assert "problem: " in done.stdout


def test_what_is_not_checked_is_said(suite_file, data_dir, tmp_path):
    suite = suite_file(
        "name: two\nbudgets: [full]\nbackbones: [{name: raw_pixels, size_px: 8}]\nprotocols: [knn]\ntasks: [vtab/pets]\n"
    )
    package.run(suite, tmp_path / "run", seeds=[0])
    pack(tmp_path / "run", tmp_path / "s.zip")
    with_data = vitbench("unpack", tmp_path / "s.zip", "--check", "--data-dir", data_dir, "--rerun", "1")
    assert "checked for 0 of 1 scores: the number of test examples" in with_data.stderr
    assert "other for 1, whose data state how they depart" in with_data.stderr
    assert "checked for 1 scores: labels and correctness are those" in with_data.stderr
    assert "run again: 1 of 1 jobs" in with_data.stderr
    done = vitbench("unpack", tmp_path / "s.zip", "--check", "--data-dir", tmp_path / "none", "--rerun", "1")
    assert done.returncode == 0
    assert (
        "not checked for 1 scores: labels against the data: data set oxford_iiit_pet is not prepared"
        in done.stderr
    )
    assert "not run again (1 jobs): data set oxford_iiit_pet is not prepared" in done.stderr


def test_a_check_without_a_rerun_does_not_import_torch(packed):
    assert "torch" not in imported("unpack", packed, "--check")
