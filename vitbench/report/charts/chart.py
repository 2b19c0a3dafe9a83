"""Types of charts: what the page and `--figures` need to know of each, and a drawing with its accessible name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitbench.core.record import Record
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import Spec
from vitbench.report.leaderboard import Board


@dataclass(frozen=True)
class Drawing:
    """One drawing of a chart; if there are several variants, the page shows one at a time, with a button for each."""

    spec: Spec
    label: str  # for readers who cannot see it
    variant: str = ""  # ends the name of its file
    button: str = ""


# What a script needs to draw the chart besides the tables: how many `what` there are in all, what its `axis` shows, and more.
# Empty where there is nothing to draw.
Points = Callable[[Sequence[Board], Sequence[Record]], dict[str, Any]]


@dataclass(frozen=True)
class Chart:
    """A chart; `draw` gets one board and its records, or those of the whole run if that is the scope, and all families.

    It draws files; on the page, charts with `points` are drawn by a script.
    """

    name: str
    title: str
    scope: Literal["board", "run"]
    draw: Callable[[Sequence[Board], Sequence[Record], Families], list[Drawing]]
    folded: bool = False  # the page shows it on demand
    points: Points | None = None  # for the page's script, which draws it so that it follows filters and ticks
    most_cells: int | None = None  # the page leaves it out on larger boards: cells have dialogs
