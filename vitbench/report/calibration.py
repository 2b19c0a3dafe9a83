"""How confident a cell's predictions are, and how often they are right: the bins of its calibration error, for a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vitbench.core.record import Record


def calibration(records: Sequence[Record]) -> dict[str, Any]:
    """The bins of confidence that hold images, all seeds together: how many, their mean confidence, and how many are right.

    Records of older versions have a calibration error without bins: then there are none.
    """
    errors = [error for r in records if (error := r.further.get("ece")) and error.value is not None]
    if not errors:
        return {}
    found = []
    for bins in zip(*(error.bins for error in errors), strict=False):
        images, right = sum(n for n, _, _ in bins), sum(right for _, _, right in bins)
        if images:
            found.append([images, round(math.fsum(n * mean for n, mean, _ in bins) / images, 4), right])
    return {"bins": found}
