"""One line that moves while a suite runs; silent where nobody watches."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from vitbench.cli.text import printable
from vitbench.launch import Progress
from vitbench.records import Job, Record


class TerminalProgress(Progress):
    """A bar over jobs with the time left, and what the current job does."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._failed = 0

    def begin(self, total: int, done: int) -> None:
        """Draw the bar, starting from what was done before."""
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="job",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def step(self, job: Job, phase: str, done: int, total: int) -> None:
        """Say how far the job is."""
        if self._bar is not None and not self._bar.disable:
            text = f"{job.backbone.label} · {job.task.label} · {phase} {done}/{total}"
            self._bar.set_postfix_str(printable(text), refresh=False)
            self._bar.update(0)

    def finished(self, record: Record) -> None:
        """Count a job, and name it if it failed."""
        if self._bar is None:
            return
        if record.failure is not None and not self._bar.disable:
            text = f"failed: {record.job.title}: {record.failure.message}"
            self._bar.write(printable(text)[:300], file=sys.stderr)
        self._bar.update(1)

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
