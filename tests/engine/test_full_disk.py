"""A full disk stops the run with an error, is not a failed job, and space lets the run go on."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

import vitbench
from tests.making.records import essence
from vitbench.core.errors import StorageError
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.store.record_file import load

ENTER = ["unshare", "--map-root-user", "--mount"]  # mounts of one's own, for anyone


def may_mount():
    command = [*ENTER, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_space_lets_it_go_on(tiny, tmp_path, monkeypatch):
    """On a tmpfs of 800 kB, which holds the page twice; where nobody may mount one, with a disk that says it is full."""
    out = tmp_path / "run"
    if may_mount():
        vitbench_run = f"{sys.executable} -m vitbench run {tiny} --out {out}"
        script = f"""
        mkdir -p {out}; mount -t tmpfs -o size=800k tmpfs {out}; cd {tmp_path}
        head -c 790k /dev/zero > {out}/ballast; {vitbench_run}; echo "exit $?"; find {out} -name '*.tmp'
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
def test_a_job_on_a_full_disk_is_not_a_failed_job(suite_file, tmp_path, workers):
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
