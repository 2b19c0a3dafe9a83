"""Which test images each result got right, read from the predictions in its run directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitbench.core.clusters import by_cluster
from vitbench.core.errors import UsageError
from vitbench.core.record import Record
from vitbench.report.shown_metric import main_metric_name
from vitbench.store.predictions import CLUSTER
from vitbench.store.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd

# (S, N), by seed and image: 1 correct, 0 wrong; (S, G) float64 by seed and cluster where images belong together.
Table = NDArray[np.uint8] | NDArray[np.float64]
MOST_RECORDS = 1000  # of a page: reading the predictions of more takes longer than making it


class Predictions:
    """The predictions of some runs."""

    def __init__(self, runs: Iterable[Path]) -> None:
        self._runs = [RunDir(run) for run in runs]

    def correct(self, record: Record, metric: str | None = None) -> NDArray[np.float64]:
        """By test image whether it is classified correctly (N,), NaN where it is not counted, by the main metric or another.

        Raises:
            UsageError: the predictions are missing or damaged, or do not say it.
        """
        name = metric or main_metric_name(record)
        column = self._read(record, f"{name}_correct", _test_set(record, metric)).get(f"{name}_correct")
        if column is None:
            raise UsageError(
                f"the predictions of {record.job.title} do not say which images are correct by {name}"
            )
        return column.to_numpy(dtype=np.float64)

    def clusters(self, record: Record, metric: str | None = None) -> NDArray[np.int64] | None:
        """The cluster of each image that a metric is of (N,); None if images do not belong together."""
        test_set = _test_set(record, metric)
        own = [test_set] if test_set else [name for name in record.metrics if name not in record.test_sets]
        if not any(record.metrics[name].clusters for name in own):
            return None
        column = self._read(record, CLUSTER, test_set).get(CLUSTER)
        return None if column is None else column.to_numpy(dtype=np.int64)

    def _read(self, record: Record, column: str, test_set: str) -> pd.DataFrame:
        places = (run for run in self._runs if run.predictions_path(record.key, test_set).is_file())
        return next(places, self._runs[0]).predictions(record, [column], test_set)


def _test_set(record: Record, metric: str | None) -> str:
    """The further test set that a metric is of; '' for the task's own."""
    return metric if metric and metric in record.test_sets else ""


def predictions_of(runs: Iterable[Path], records: Sequence[Record]) -> Predictions | None:
    """The predictions for boards of these records; None if there are none, or so many that reading them takes long."""
    found = [run for run in runs if RunDir(run).has_predictions()]
    return Predictions(found) if found and len(records) <= MOST_RECORDS else None


def tables(
    cells: Sequence[Sequence[Record]], predictions: Predictions, metric: str | None = None
) -> list[Table]:
    """One table for each cell, of the images that count in all of them, or of their clusters.

    Raises:
        UsageError: predictions are missing or damaged, or are of different images.
    """
    raw = [[predictions.correct(record, metric) for record in own] for own in cells]
    sizes = {len(values) for own in raw for values in own}
    if len(sizes) != 1:
        raise UsageError(
            f"predictions of {cells[0][0].job.title} and others are of different numbers of images: {sizes}"
        )
    stacked = [np.stack(own) for own in raw]
    counted = np.all([~np.isnan(table).any(0) for table in stacked], axis=0)
    clusters = predictions.clusters(cells[0][0], metric)
    if clusters is None:
        return [table[:, counted].astype(np.uint8) for table in stacked]
    return [by_cluster(table[:, counted], clusters[counted]) for table in stacked]


def tables_or_none(
    cells: Sequence[Sequence[Record]], predictions: Predictions | None, metric: str | None = None
) -> list[Table] | None:
    """The tables, or None without predictions."""
    if predictions is None or not cells:
        return None
    try:
        return tables(cells, predictions, metric)
    except UsageError:
        return None
