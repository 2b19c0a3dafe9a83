"""Weights & Biases: one run, a history row for each job, and the leaderboard's page as an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vitbench.api import RunLog
from vitbench.core.job import Job
from vitbench.core.lazy_import import required
from vitbench.core.record import Record
from vitbench.core.registry import register_log
from vitbench.core.run_log import described, scalars, series


@register_log("wandb")
class WandB(RunLog):
    """A run of Weights & Biases; `mode: offline` (or WANDB_MODE) keeps it on this machine for `wandb sync`."""

    def __init__(
        self,
        project: str = "vitbench",
        entity: str | None = None,
        name: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        """The project, and the entity it belongs to; the run's name, by default the suite's."""
        self._wandb = required("wandb", "log")
        self._settings = {"project": project, "entity": entity, "mode": mode}
        self._name = name
        self._run: Any = None

    def begin(self, run: Path, name: str, jobs: Sequence[Job]) -> None:
        """Start the run; its files go to the run directory."""
        run.mkdir(parents=True, exist_ok=True)
        config = {"suite": name, "jobs": len(jobs), "run_directory": str(run)}
        self._run = self._wandb.init(dir=str(run), name=self._name or name, config=config, **self._settings)

    def job(self, record: Record) -> None:
        """What the job is, and its scalars under its series."""
        numbers = {f"{series(record.job)}/{name}": value for name, value in scalars(record).items()}
        self._run.log({**described(record.job), "status": record.status, **numbers})

    def end(self, board: Path | None) -> None:
        """The page as an artifact; then the run is finished."""
        if self._run is None:
            return
        if board is not None:
            artifact = self._wandb.Artifact("leaderboard", type="leaderboard")
            artifact.add_file(str(board))
            self._run.log_artifact(artifact)
        self._run.finish()
