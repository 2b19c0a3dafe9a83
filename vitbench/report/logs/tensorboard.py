"""TensorBoard: a run for each backbone, a tag for each task, protocol, budget and number; steps are seeds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitbench.api import RunLog
from vitbench.core.job import Job
from vitbench.core.lazy_import import required
from vitbench.core.record import Record
from vitbench.core.registry import register_log
from vitbench.core.run_log import scalars, series


@register_log("tensorboard")
class TensorBoard(RunLog):
    """Event files for TensorBoard, and the leaderboard's page beside them."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is for event files; default: `tensorboard/` in the run directory."""
        self._writer_of = required("tensorboard.summary", "log").Writer
        self._folder, self._writers = folder, dict[str, Any]()

    def begin(self, run: Path, name: str, jobs: Sequence[Job]) -> None:
        """Event files are made when there is something to write."""
        del name, jobs
        self._folder = self._folder or run / "tensorboard"

    def job(self, record: Record) -> None:
        """Its scalars, at the step of its seed."""
        backbone = record.job.backbone.label
        for name, value in scalars(record).items():
            self._writer(backbone).add_scalar(f"{series(record.job)}/{name}", value, step=record.job.seed)
        if backbone in self._writers:
            self._writers[backbone].flush()

    def end(self, board: Path | None) -> None:
        """Close the files; TensorBoard has no artifacts, so the page is copied beside them."""
        for writer in self._writers.values():
            writer.close()
        if board is not None and self._folder is not None and self._folder.is_dir():
            shutil.copyfile(board, self._folder / "leaderboard.html")

    def _writer(self, backbone: str) -> Any:
        if backbone not in self._writers:
            place = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in backbone)
            self._writers[backbone] = self._writer_of(str((self._folder or Path()) / place))
        return self._writers[backbone]
