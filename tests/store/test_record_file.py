"""Record files: damaged, foreign or of any bytes, they are named and never taken for a result."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitbench
from tests.making.bad_input import FAST, VALUES, handled
from tests.making.command import vitbench as command
from tests.making.damage import flip
from tests.making.records import essence
from vitbench.core.errors import UsageError
from vitbench.core.files import read_file
from vitbench.engine.run import run_suite
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir


def test_a_damaged_record_is_named_and_recomputed(tiny, tmp_path):
    first = vitbench.run(tiny, tmp_path / "run")
    path = RunDir(tmp_path / "run").record_path(first[0].key)
    flip(path)
    with pytest.raises(UsageError, match=rf"{path.name}: not a record .* SHA-256 mismatch"):
        load(tmp_path / "run")
    result = run_suite(str(tiny), tmp_path / "run")
    assert result.ran == 1
    assert essence(result.records) == essence(first)


def test_pipes_and_devices_are_not_waited_for(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    os.mkfifo(tmp_path / "run" / "records" / "zzz.json")
    (tmp_path / "run" / ".running").mkdir(exist_ok=True)
    (tmp_path / "run" / ".running" / "zz.json").symlink_to("/dev/zero")
    said = command("status", tmp_path / "run")
    assert "zzz.json" in said.stdout
    assert "4 done" in said.stdout
    assert "zzz.json" in command("report", tmp_path / "run", "-o", tmp_path / "x.html").stderr
    with pytest.raises(OSError, match="not a regular file"):
        read_file("/dev/zero")


@settings(FAST, max_examples=30)
@given(st.binary(max_size=80) | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "replace")))
def test_a_record_of_any_bytes(tmp_path, data):
    (tmp_path / "records").mkdir(exist_ok=True)
    (tmp_path / "records" / "x.json").write_bytes(data)
    for verb in (("report",), ("export",), ("status",), ("merge", "-o", tmp_path / "out")):
        code, _, err = handled(*verb, tmp_path)
        assert code == 2
        assert err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_record_cannot_name_a_file_outside(tiny_records, tmp_path):
    record = tiny_records[0].model_copy(update={"key": "../../escaped"})
    path = tmp_path / "run" / "records" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(encode(record))
    with pytest.raises(Exception, match="key does not belong to its job"):
        load(tmp_path / "run")
    assert RunDir(tmp_path / "run").read("x") is None
