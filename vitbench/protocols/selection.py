"""Selection of one hyper-parameter value from a grid by score, recorded as trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from vitbench.core.record import Trial

Number = TypeVar("Number", int, float)


def select(
    option: str,
    grid: Sequence[Number],
    scores: Sequence[float],
    *,
    ties: Literal["smaller", "larger"],
    split: Literal["val", "train"] = "val",
    metric: str = "top1",
    further: Sequence[dict[str, Any]] | None = None,
) -> tuple[Number, tuple[Trial, ...]]:
    """Return the value with the highest score, and one trial per value. `ties` says which of equally good values wins.

    `further` are additional fields of each trial, in the order of the grid.
    """
    sign = -1 if ties == "smaller" else 1
    best = max(range(len(grid)), key=lambda i: (scores[i], sign * grid[i]))
    trials = tuple(
        Trial(
            options={option: value},
            split=split,
            metric=metric,
            value=scores[i],
            chosen=i == best,
            **(further[i] if further else {}),
        )
        for i, value in enumerate(grid)
    )
    return grid[best], trials


def fixed(option: str, value: float) -> Trial:
    """Return the trial of a value that was set, not selected."""
    return Trial(options={option: value}, split="train", metric="top1", value=None, chosen=True)
