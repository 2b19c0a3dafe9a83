"""Run directories: written, read, claimed, moved, and refused where they cannot be written."""

import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

import vitbench
from vitbench.core.errors import UsageError
from vitbench.engine.run import run_suite
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


def test_what_is_written_is_read(tiny_records, tmp_path):
    run = RunDir(tmp_path)
    table = pd.DataFrame({"index": range(tiny_records[0].data.n_test), "prediction": 4})
    kept = run.write(tiny_records[0], table)
    assert run.read(tiny_records[0].key) == kept
    assert kept == tiny_records[0].model_copy(update={"predictions_sha256": kept.predictions_sha256})
    assert run.predictions(kept).equals(table)
    assert load(tmp_path) == [kept]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda _data: b"",
        lambda data: b"\x00" + data[1:],
        lambda data: data.replace(b'"value": 0.', b'"value": 0.9'),
        lambda data: data + b" ",
        lambda data: b"{\n" + data.split(b"\n", 2)[2],
    ],
    ids=["half", "empty", "no JSON", "another score", "longer", "without its digest"],
)
def test_a_torn_record_is_not_done_and_is_named(tiny_records, tmp_path, damage):
    run = RunDir(tmp_path)
    run.write(tiny_records[0])
    path = run.record_path(tiny_records[0].key)
    path.write_bytes(damage(path.read_bytes()))
    assert run.read(tiny_records[0].key) is None
    with pytest.raises(UsageError, match=path.name):
        load(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:60] + b"x" + data[61:], None])
def test_damaged_predictions_are_named_and_never_used(tiny_records, tmp_path, damage):
    run = RunDir(tmp_path)
    kept = run.write(tiny_records[0], pd.DataFrame({"index": [0, 1], "prediction": [3, 4]}))
    path = run.predictions_path(kept.key)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=f"{kept.key}.parquet"):
        run.predictions(kept)


def test_a_record_under_another_name_is_not_done(tiny_records, tmp_path):
    run = RunDir(tmp_path)
    run.write(tiny_records[0])
    run.record_path(tiny_records[0].key).rename(run.record_path(tiny_records[1].key))
    assert run.done([record.job for record in tiny_records]) == {}


def test_an_empty_directory_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"no records in[\s\S]*vitbench run"):
        load(tmp_path)


def test_a_job_is_claimed_once(tmp_path):
    run = RunDir(tmp_path)
    lock = run.claim("key")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(run.claim("key")))
    thread.start()
    thread.join()
    assert seen == [None]
    lock.release()
    again = run.claim("key")
    assert again is not None
    again.release()


def test_an_unwritable_directory_is_an_error_before_anything_runs(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "run", Path("/proc/vitbench")):
        with pytest.raises(UsageError, match=r"cannot be written.*[\s\S]*--out DIR"):
            run_suite(str(tiny), place)


def test_a_run_directory_moves_to_another_machine(tiny, tmp_path):
    first = vitbench.run(tiny, tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / ".locks")
    assert vitbench.run(tiny, tmp_path / "elsewhere") == first
