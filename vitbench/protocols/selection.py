"""Selection of one value out of a grid by its scores, recorded as trials."""

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
    facts: Sequence[dict[str, Any]] | None = None,
) -> tuple[Number, tuple[Trial, ...]]:
    """The value of the highest score, ties to the smaller or the larger value, and one trial for each value.

    `facts` are further fields of the trials, in the grid's order.
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
            **(facts[i] if facts else {}),
        )
        for i, value in enumerate(grid)
    )
    return grid[best], trials


def fixed(option: str, value: float) -> Trial:
    """The trial of a value that was given, not selected."""
    return Trial(options={option: value}, split="train", metric="top1", value=None, chosen=True)
