import threading

import pandas as pd
import pytest

from vitbench.errors import UsageError
from vitbench.store import Run, load


def test_what_is_written_is_read(tiny_records, tmp_path):
    run = Run(tmp_path)
    table = pd.DataFrame({"index": [0, 1], "prediction": [3, 4]})
    run.write(tiny_records[0], table)
    assert run.read(tiny_records[0].key) == tiny_records[0]
    assert pd.read_parquet(run.predictions_path(tiny_records[0].key)).equals(table)
    assert load(tmp_path) == [tiny_records[0]]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda _data: b"", lambda data: b"\x00" + data[1:]]
)
def test_a_torn_record_is_not_done_and_is_named(tiny_records, tmp_path, damage):
    run = Run(tmp_path)
    run.write(tiny_records[0])
    path = run.record_path(tiny_records[0].key)
    path.write_bytes(damage(path.read_bytes()))
    assert run.read(tiny_records[0].key) is None
    with pytest.raises(UsageError, match=path.name):
        load(tmp_path)


def test_a_record_under_another_name_is_not_done(tiny_records, tmp_path):
    run = Run(tmp_path)
    run.write(tiny_records[0])
    run.record_path(tiny_records[0].key).rename(run.record_path(tiny_records[1].key))
    assert run.done([record.job for record in tiny_records]) == {}


def test_an_empty_directory_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"no records in[\s\S]*vitbench run"):
        load(tmp_path)


def test_a_job_is_claimed_once(tmp_path):
    run = Run(tmp_path)
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
