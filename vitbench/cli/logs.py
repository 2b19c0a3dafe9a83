"""`--log`: where results go beside the run directory, told of each job by the progress of the run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import vitbench.report.logs  # noqa: F401  registers the logs that ship with vitbench
from vitbench.core.errors import UsageError, message_of
from vitbench.core.format import printable
from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.core.registry import LOGS
from vitbench.core.run_log import RunLog
from vitbench.engine.plan import RunPlan
from vitbench.engine.run import Progress
from vitbench.store.run_dir import RunDir
from vitbench.suite.command_line import Given, entry_of


class LoggedProgress(Progress):
    """The progress of a run, which logs are told of too; one that raises is said, and told no more."""

    def __init__(self, progress: Progress, logs: dict[str, RunLog], plan: RunPlan) -> None:
        self._progress, self._logs, self._plan = progress, logs, plan

    def begin(self, run: RunDir, jobs: Sequence[Job], done: Sequence[Record], workers: int) -> None:
        """Begin all logs, then the progress."""
        self._tell(lambda log: log.begin(run.path.resolve(), self._plan.suite.name, jobs))
        self._progress.begin(run, jobs, done, workers)

    def remark(self, text: str) -> None:
        """What is to be known of the data is the progress's to say."""
        self._progress.remark(text)

    def finished(self, record: Record) -> None:
        """A job has ended."""
        self._progress.finished(record)
        self._tell(lambda log: log.job(record))

    def end(self) -> None:
        """The jobs are over; the page comes after."""
        self._progress.end()

    def close(self, board: Path | None) -> None:
        """The run is over for the logs too."""
        self._tell(lambda log: log.end(board))

    def _tell(self, what: Callable[[RunLog], None]) -> None:
        for name, log in list(self._logs.items()):
            try:
                what(log)
            except Exception as error:  # noqa: BLE001  a tracker may raise anything; records are what counts
                del self._logs[name]
                text = f"--log {name}: {type(error).__name__}: {message_of(error)}; nothing more goes there"
                sys.stderr.write(f"warning: {printable(text)}\n")


@contextlib.contextmanager
def logged(wanted: Sequence[Given], plan: RunPlan, progress: Progress) -> Iterator[Progress]:
    """The progress of a run that these logs are told of; at the end of the block they get its page, if there is one.

    Raises:
        UsageError: there is no such log, or what it needs is not installed.
    """
    logs = {str(each["name"]): _made(each) for each in (entry_of(given, "--log") for given in wanted)}
    if not logs:
        yield progress
        return
    told = LoggedProgress(progress, logs, plan)
    try:
        yield told
    finally:
        page = plan.run.report_path
        told.close(page if page.is_file() else None)


def _made(entry: dict[str, object]) -> RunLog:
    name = str(entry["name"])
    options = {key: value for key, value in entry.items() if key != "name"}
    made = LOGS.make(name, options)[1]
    if not isinstance(made, RunLog):
        raise UsageError(f"--log {name}: it is no RunLog")
    return made
