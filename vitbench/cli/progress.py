"""Progress bars while a suite runs: one for the suite, a line for each running job. Silent unless stderr is a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from vitbench.core.format import printable
from vitbench.core.job import Job, JobLabels
from vitbench.core.record import Record
from vitbench.engine.run import Progress
from vitbench.store.heartbeat import Heartbeat, read_all
from vitbench.store.run_dir import RunDir
from vitbench.store.time_left import TimeLeft

EVERY_S = 1.0
MOST_LINES = 8  # jobs shown at once: more would fill a small terminal


class TerminalProgress(Progress):
    """A bar over jobs with the estimated time left, and a line with the phase of each running job."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._lines: list[tqdm[Any]] = []
        self._left: dict[str, JobLabels] = {}
        self._time_left = TimeLeft()
        self._failed = 0
        self._ended = threading.Event()
        self._drawing = threading.Lock()

    def begin(self, run: RunDir, jobs: Sequence[Job], done: Sequence[Record], workers: int) -> None:
        """Draw the bar, starting at the jobs that were done before."""
        if not sys.stderr.isatty():
            return
        self._workers, self._folder = workers, run.path / ".running"
        self._failed = sum(record.status == "failed" for record in done)
        self._time_left = TimeLeft(done)
        finished = {record.key for record in done}
        self._left = {job.key: job.labels for job in jobs if job.key not in finished}
        form = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} jobs [{elapsed}{postfix}]"
        self._bar = tqdm(
            total=len(jobs), initial=len(done), file=sys.stderr, dynamic_ncols=True, bar_format=form
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def remark(self, text: str) -> None:
        """Print what is to be known of the data."""
        sys.stderr.write(f"{printable(text)}\n")

    def finished(self, record: Record) -> None:
        """Count a job, and print its failure if it failed."""
        if self._bar is None:
            return
        with self._drawing:
            self._left.pop(record.key, None)
            self._time_left.add(record)
            if record.failure is not None:
                self._failed += 1
                text = f"failed: {record.job.title}: {record.failure.message}"
                self._bar.write(printable(text)[:300], file=sys.stderr)
            self._bar.update(1)

    def end(self) -> None:
        """Close the bar and leave it on the screen."""
        if self._bar is None:
            return
        self._ended.set()
        self._thread.join()
        for line in reversed(self._lines):
            line.close()
        self._bar.set_postfix_str(f"{self._failed} failed" if self._failed else "")
        self._bar.close()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            with self._drawing:
                self._draw([heartbeat for heartbeat in read_all(self._folder) if heartbeat.key in self._left])

    def _draw(self, heartbeats: Sequence[Heartbeat]) -> None:
        shown = heartbeats[:MOST_LINES]
        while len(self._lines) < len(shown):
            self._lines.append(
                tqdm(
                    file=sys.stderr,
                    position=len(self._lines) + 1,
                    bar_format="  {desc}",
                    leave=False,
                    dynamic_ncols=True,
                )
            )
        for i, line in enumerate(self._lines):
            line.set_description_str(line_of(shown[i]) if i < len(shown) else "", refresh=True)
        if self._bar is not None:
            left_s = self._time_left.remaining_s(self._left.values(), self._workers)
            parts = [f"{len(heartbeats)} running"]
            parts += [f"{self._failed} failed"] if self._failed else []
            parts += [f"{tqdm.format_interval(left_s)} left"] if left_s is not None else []
            self._bar.set_postfix_str(" · ".join(parts))


def line_of(heartbeat: Heartbeat) -> str:
    """Return one line about a running job."""
    part_done = f" {heartbeat.done}/{heartbeat.total}" if heartbeat.total else ""
    return printable(f"{heartbeat.title} · {heartbeat.phase}{part_done}")
