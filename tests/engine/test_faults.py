"""Disks that fill up, bytes that flip, clocks that go back: found, said, and never part of a result."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vitbench
from vitbench.core.errors import StorageError, UsageError
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir

ENTER = ["unshare", "--map-root-user", "--mount"]  # mounts of one's own, for anyone


def essence(records):
    return [record.model_copy(update={"cost": None, "created": "", "env": None}) for record in records]


def flip(path, place=-20):
    """Another bit in one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(bytes(data))


def may_mount():
    command = [*ENTER, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_stops_the_run_and_space_lets_it_go_on(tiny, tmp_path, monkeypatch):
    """On a tmpfs of 200 kB; where nobody may mount one, with a disk that says it is full."""
    out = tmp_path / "run"
    if may_mount():
        vitbench_run = f"{sys.executable} -m vitbench run {tiny} --out {out}"
        script = f"""
        mkdir -p {out}; mount -t tmpfs -o size=200k tmpfs {out}; cd {tmp_path}
        head -c 190k /dev/zero > {out}/ballast; {vitbench_run}; echo "exit $?"; find {out} -name '*.tmp'
        rm {out}/ballast; {vitbench_run}; echo "exit $?"; cp -r {out} {tmp_path}/kept
        """
        done = subprocess.run([*ENTER, "bash", "-c", script], capture_output=True, text=True)
        first, _, rest = done.stdout.partition("exit 1")
        assert "No space left on device" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert ".tmp" not in first + rest
        assert rest.rstrip().endswith("exit 0")
        records = load(tmp_path / "kept")
    else:
        _full_after(monkeypatch, 3)
        with pytest.raises(StorageError, match="No space left"):
            vitbench.run(tiny, out)
        monkeypatch.undo()
        assert not list(out.rglob("*.tmp"))
        records = vitbench.run(tiny, out)
    assert len(records) == 4
    assert essence(sorted(records, key=lambda r: r.key)) == essence(
        sorted(vitbench.run(tiny, tmp_path / "other"), key=lambda r: r.key)
    )


def _full_after(monkeypatch, writes):
    left = [writes]
    fsync = os.fsync

    def failing(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_on_a_full_disk_is_no_failed_job(suite_file, tmp_path, workers):
    plugin = tmp_path / "full.py"
    plugin.write_text(
        "import errno\nfrom dataclasses import dataclass\nfrom vitbench import register_protocol\n"
        "from vitbench.api import Protocol\n@register_protocol('full')\n@dataclass(frozen=True)\nclass Full(Protocol):\n"
        "    'Writes a lot.'\n    def depends_on_seed(self, budget):\n        return False\n"
        "    def adapt(self, data):\n        raise OSError(errno.ENOSPC, 'No space left on device', '/scratch')\n"
    )
    suite = suite_file("name: f\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [full]\n")
    with pytest.raises(StorageError, match="No space left"):
        run_suite(str(suite), tmp_path / "run", Overrides(plugins=[str(plugin)]), RunOptions(workers=workers))
    assert not list((tmp_path / "run" / "records").glob("*.json"))


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-5]), Path.unlink])
def test_damaged_features_are_computed_again(tiny, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    first = vitbench.run(tiny, tmp_path / "one")
    arrays = list((tmp_path / "cache" / "features").glob("*.npy"))
    assert arrays
    for path in arrays:
        damage(path)
    again = vitbench.run(tiny, tmp_path / "two")
    assert essence(first) == essence(again)
    assert sum(record.cost.images_forward for record in again) == sum(r.cost.images_forward for r in first)


def test_a_damaged_record_is_named_and_made_anew(tiny, tmp_path):
    first = vitbench.run(tiny, tmp_path / "run")
    path = RunDir(tmp_path / "run").record_path(first[0].key)
    flip(path)
    with pytest.raises(UsageError, match=rf"{path.name}: not a record .* not what was written"):
        load(tmp_path / "run")
    result = run_suite(str(tiny), tmp_path / "run")
    assert result.ran == 1
    assert essence(result.records) == essence(first)


def test_a_clock_that_goes_back_hides_nothing(tiny, tmp_path):
    """A page from the future is not taken for one of the records that came after it."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vitbench", "run", str(tiny), "--out", str(out)]
    subprocess.run([*command, "--seeds", "0"], check=True, capture_output=True)
    later = time.time() + 86_400
    for path in (out / "report.html", *out.rglob("*.json")):
        os.utime(path, (later, later))
    vitbench.run(tiny, out)  # keeps records, makes no page
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "4 jobs, 0 new. Leaderboard" in done.stderr
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "nothing to do" in again.stderr


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "run", Path("/proc/vitbench")):
        with pytest.raises(UsageError, match=r"cannot be written.*[\s\S]*--out DIR"):
            run_suite(str(tiny), place)


def test_every_job_has_a_log_with_what_went_wrong(suite_file, tmp_path):
    plugin = tmp_path / "loud.py"
    plugin.write_text(
        "import logging\nfrom dataclasses import dataclass\nfrom vitbench import register_protocol\n"
        "from vitbench.api import Protocol\n@register_protocol('loud')\n@dataclass(frozen=True)\nclass Loud(Protocol):\n"
        "    'Warns and fails.'\n    def depends_on_seed(self, budget):\n        return False\n    def adapt(self, data):\n"
        "        logging.getLogger('odd').warning('a word')\n        raise ZeroDivisionError('never')\n"
    )
    suite = suite_file("name: f\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [loud]\n")
    (record,) = vitbench.run(suite, tmp_path / "run", plugins=[str(plugin)])
    log = (tmp_path / "run" / "logs" / f"{record.key}.log").read_text()
    assert record.job.title in log.splitlines()[0]
    assert "data: 0." in log
    assert "a word" in log
    assert "ZeroDivisionError: never" in log
    assert not list((tmp_path / "run" / ".running").glob("*"))


def test_the_plan_lies_in_the_run_directory(tiny, tmp_path):
    records = vitbench.run(tiny, tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert [row[0] for row in rows] == [record.key for record in records]
