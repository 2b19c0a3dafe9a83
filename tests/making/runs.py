"""Runs of a suite: within the test's process, or as a process that a test can stop."""

import time

from tests.making.command import started
from vitbench.engine.run import Overrides, Progress, RunOptions, run_suite


class Events(Progress):
    """Remembers which jobs ended."""

    def __init__(self):
        self.titles = []

    def finished(self, record):
        self.titles.append(record.job.title)


def ran(suite, out, **how):
    """The result of a run, and the titles of the jobs that it has run."""
    events = Events()
    options = RunOptions(
        **{k: how.pop(k) for k in ("workers", "force", "retry_failed", "fail_fast") if k in how}
    )
    return run_suite(str(suite), out, Overrides(**how), options, events), events.titles


def start_run(suite, plugin, out, workers=1):
    """The same as a process."""
    arguments = ("run", suite, "--plugin", plugin, "--out", out, "--workers", workers)
    return started(*arguments, PYTHONUNBUFFERED="1")


def wait_until(holds, seconds=60):
    """Return when `holds()` is true; fail after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_records(out, count, process):
    """Return when the running process has written so many."""

    def there():
        assert process.poll() is None
        return len(list(out.glob("records/*.json"))) >= count

    wait_until(there)
