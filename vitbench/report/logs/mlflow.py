"""MLflow: a run for the suite with a nested run for each job, and the leaderboard's page as an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitbench.api import RunLog
from vitbench.core.job import Job
from vitbench.core.lazy_import import required
from vitbench.core.record import Record
from vitbench.core.registry import register_log
from vitbench.core.run_log import described, scalars


@register_log("mlflow")
class MLflow(RunLog):
    """Runs of MLflow; without a server they are files (`tracking_uri: file:DIR`, or MLFLOW_TRACKING_URI)."""

    def __init__(self, tracking_uri: str | None = None, experiment: str = "vitbench") -> None:
        """`tracking_uri` is MLflow's; default: its own."""
        self._client_of = required("mlflow", "log").MlflowClient
        self._uri, self._experiment = tracking_uri, experiment
        self._client: Any = None

    def begin(self, run: Path, name: str, jobs: Sequence[Job]) -> None:
        """Start the suite's run, in an experiment that is made if it is not there."""
        self._client = self._client_of(tracking_uri=self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        self._of = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._parent = self._started(name, {})
        for param, value in {"suite": name, "jobs": len(jobs), "run_directory": str(run)}.items():
            self._client.log_param(self._parent, param, value)

    def job(self, record: Record) -> None:
        """A nested run: what the job is as parameters, its scalars as metrics."""
        child = self._started(record.job.title, {"mlflow.parentRunId": self._parent})
        for param, value in described(record.job).items():
            self._client.log_param(child, param, value)
        for metric, number in scalars(record).items():
            self._client.log_metric(child, metric, number)
        self._client.set_terminated(child, "FINISHED" if record.status == "ok" else "FAILED")

    def end(self, board: Path | None) -> None:
        """The page as an artifact of the suite's run, which ends."""
        if self._client is None:
            return
        if board is not None:
            self._client.log_artifact(self._parent, str(board))
        self._client.set_terminated(self._parent)

    def _started(self, name: str, tags: dict[str, str]) -> str:
        tags = {"mlflow.runName": name, **tags}
        return str(self._client.create_run(self._of, tags=tags).info.run_id)
