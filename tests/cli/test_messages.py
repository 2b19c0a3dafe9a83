"""Messages of the command line where its input or its surroundings are wrong."""

import errno
import os
import socket
import string
import subprocess
from pathlib import Path

import yaml
from hypothesis import given, settings

from tests.making.bad_input import FAST, NASTY, SMALLEST, handled
from tests.making.command import MODULE, environment
from tests.making.command import vitbench as command
from vitbench.engine.run import run_suite


@settings(FAST, max_examples=40)
@given(NASTY)
def test_names_on_the_command_line(monkeypatch, tmp_path, name):
    if "\x00" in name:
        return  # no shell can pass it on
    monkeypatch.setattr("vitbench.engine.speeds.CALIBRATION_S", 0.0)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SMALLEST))
    for option in (
        "--backbone",
        "--task",
        "--protocol",
        "--budget",
        "--set",
        "--seeds",
        "--shard",
        "--plugin",
    ):
        asked = ("run", tmp_path / "s.yaml", f"{option}={name}", "--out", tmp_path / "run", "--dry-run")
        assert handled(*asked)[0] in (0, 2, 3), option
    assert handled("run", f"./{name}", "--dry-run", "--out", tmp_path / "run")[0] in (2, 3)
    assert handled("report", f"{tmp_path}/{name}")[0] == 2
    assert handled("status", f"{tmp_path}/{name}")[0] == 2


def test_look_alikes_are_distinguished(tmp_path):
    code, _, err = handled("run", "quickstart", "--task", "dіgits", "--out", tmp_path / "r", "--dry-run")
    assert code == 2  # the i is Cyrillic
    assert "digits" in err
    assert all(c in string.printable for c in err.partition("did you mean")[2])


def test_an_address_where_nobody_listens_is_an_error_at_once(tiny, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = command(
        "run", tiny, "--out", tmp_path / "r", "--executor", "ray", "--address", f"127.0.0.1:{port}"
    )
    assert done.returncode == 2
    assert f"there is no Ray cluster at 127.0.0.1:{port}" in done.stderr
    alone = command("run", tiny, "--out", tmp_path / "r", "--address", "127.0.0.1:6379")
    assert alone.returncode == 2
    assert "--executor ray" in alone.stderr


def test_a_full_disk_is_reported_with_what_to_do(tiny, tmp_path, monkeypatch):
    run_suite(str(tiny), tmp_path / "run")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vitbench.core.files.os.fsync", full)
    for verb in (("report", tmp_path / "run"), ("pack", tmp_path / "run", "-o", tmp_path / "s.zip")):
        done = command(*verb)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "free some space" in done.stderr
        assert "fault of vitbench" not in done.stderr


def test_odd_files_beside_the_records_are_not_reported_as_a_bug(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    (tmp_path / "run" / "estimate.json").write_text('{"jobs": [{"key": "a", "seconds": NaN}]}')
    assert "nan" not in command("report", tmp_path / "run").stderr
    (tmp_path / "run" / "plan.json").write_text("[" * 200_000)
    said = command("status", tmp_path / "run")
    assert (said.returncode, "plan.json is damaged" in said.stderr) == (2, True)
    said = command("run", tiny, "--out", tmp_path / "x", "--shard", "1/" + "9" * 5000)
    assert (said.returncode, "I/N" in said.stderr) == (2, True)


def test_at_most_a_thousand_workers_can_be_asked_for(tiny, tmp_path):
    said = command("run", tiny, "--out", tmp_path / "x", "--workers", "1000000000")
    assert said.returncode == 2
    assert Path(tmp_path / "x").exists() is False


def test_an_output_that_cannot_be_written_is_said(tiny, tmp_path):
    """A full pipe or disk is no bug of ours."""
    run_suite(str(tiny), tmp_path / "run")
    with Path("/dev/full").open("w") as full:
        arguments = [*MODULE, "export", str(tmp_path / "run")]
        done = subprocess.run(
            arguments, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 1
    assert "error: the output cannot be written: No space left on device" in done.stderr
    assert "bug" not in done.stderr


def test_what_the_terminals_encoding_lacks_is_escaped(tiny, tmp_path):
    run_suite(str(tiny), tmp_path / "run")
    arguments = [*MODULE, "run", str(tiny), "--out", str(tmp_path / "run")]
    variables = environment(PYTHONIOENCODING="latin-1")
    done = subprocess.run(arguments, capture_output=True, encoding="latin-1", env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert r"\u2500" in done.stdout  # the line below the board's heading
