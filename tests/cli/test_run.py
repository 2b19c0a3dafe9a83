"""`vitbench run` again in a directory that has a page."""

import os
import time

import vitbench
from tests.making.command import vitbench as command


def test_a_clock_that_goes_back_hides_nothing(tiny, tmp_path):
    """A page from the future is not taken for one of the records that came after it."""
    out = tmp_path / "run"
    again = ("run", tiny, "--out", out)
    assert command(*again, "--seeds", 0).returncode == 0
    later = time.time() + 86_400
    for path in (out / "report.html", *out.rglob("*.json")):
        os.utime(path, (later, later))
    vitbench.run(tiny, out)  # keeps records, makes no page
    done = command(*again)
    assert done.returncode == 0
    assert "4 jobs, 0 new. Leaderboard" in done.stderr
    done = command(*again)
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
