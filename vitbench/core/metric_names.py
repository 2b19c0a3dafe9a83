"""Names of metrics: those that a board can show and rank by, and what they are called on pages."""

from __future__ import annotations

from typing import Literal

BoardMetric = Literal[
    "top1", "top5", "mean_per_class"
]  # accuracies: higher is better, and means of them make sense
METRIC_TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "nll": "NLL, nats",
    "ece": "calibration error (ECE)",
    "real": "ReaL",
}


def title_of(metric: str) -> str:
    """A metric's name for pages; that of a plugin's metric as it is."""
    return METRIC_TITLES.get(metric, metric)
