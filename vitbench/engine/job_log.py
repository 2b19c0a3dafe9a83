"""One log file per job: phases with times, warnings, messages of libraries, and the traceback of a failure."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("vitbench.job")
_FORM = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")


class _File(logging.FileHandler):
    """A log file that never fails a job: lines that cannot be written are dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if the file can be opened."""
        with contextlib.suppress(OSError):  # the file is opened at the first line
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the line."""
        del record


@contextlib.contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """Within the block, log messages and warnings also go to this file, which each attempt overwrites."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = _File(path, mode="w", encoding="utf-8", delay=True)
    except OSError:  # a missing log must not fail the job
        handler = logging.NullHandler()
    handler.setFormatter(_FORM)
    root = logging.getLogger()
    level = LOG.level
    LOG.setLevel(logging.INFO)
    root.addHandler(handler)
    LOG.propagate = True
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        LOG.setLevel(level)
        handler.close()
