"""The results of `vitbench.evaluate`: a table in a notebook, a DataFrame, a page, the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitbench.core.record import Record

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """Records, and the run directory they are in. Shown as a table of accuracies in percent, mean ± sd over seeds."""

    records: Sequence[Record]
    path: Path = field(repr=False)

    def table(self) -> pd.DataFrame:
        """One row per job and metric, as `vitbench export` writes it; `value` is a fraction."""
        from vitbench.report.tidy import tidy

        return tidy(self.records)

    def report(self, out: str | Path) -> Path:
        """Write the leaderboard as one HTML file, and return its path."""
        from vitbench.core.files import write_atomically
        from vitbench.report.outcomes import predictions_of
        from vitbench.report.page import Extras, render

        write_atomically(
            Path(out), render(self.records, Extras(predictions=predictions_of([self.path], self.records)))
        )
        return Path(out)

    def scores(self) -> pd.DataFrame:
        """A row per backbone, protocol and budget, a column per task: accuracy in percent, ± sd over seeds."""
        import pandas as pd

        rows: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
        for record in self.records:
            job = record.job
            row = rows.setdefault((job.backbone.label, job.protocol.label, job.budget), {})
            row.setdefault(job.task.label, []).append(record)
        shown = {key: {task: _cell(found) for task, found in row.items()} for key, row in rows.items()}
        index = pd.MultiIndex.from_tuples(list(shown), names=["backbone", "protocol", "budget"])
        return pd.DataFrame(list(shown.values()), index=index).fillna("")

    def _repr_html_(self) -> str:
        """A table in a notebook."""
        return self.scores().to_html() if self.records else "no results"

    def __str__(self) -> str:
        """The same table as text."""
        return self.scores().to_string() if self.records else "no results"


def _cell(records: Iterable[Record]) -> str:
    """The mean over seeds of the task's own metric."""
    import statistics

    values, failures = [], []
    for record in records:
        if record.status == "ok":
            values.append(100 * next(iter(record.metrics.values())).value)
        elif record.failure is not None:
            failures.append(f"failed: {record.failure.message.splitlines()[0]}")
    if failures:
        return failures[0]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"
