"""A log file per job: its phases with times, warnings, what libraries log, and the traceback of what went wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("vitbench.job")
_FORM = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")


class _File(logging.FileHandler):
    """A log file that nothing is lost by: a full disk makes no noise, and one that cannot be opened stays empty."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if there is where to."""
        with contextlib.suppress(OSError):  # it is opened at the first
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""
        del record


@contextlib.contextmanager
def logged(path: Path | None) -> Iterator[None]:
    """Within the block everything that is logged or warned of goes to this file too; each attempt starts it anew."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = _File(path, mode="w", encoding="utf-8", delay=True)
    except OSError:  # a log is not worth a job
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
