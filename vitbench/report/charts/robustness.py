"""Accuracy on further test sets against accuracy in distribution, a panel for each set (arXiv 2007.00644, Fig. 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.published.robustness import Baseline
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import INK, Spec, chart_data
from vitbench.report.keys import by_setting
from vitbench.report.leaderboard import Board
from vitbench.report.robustness import RobustnessTable, robustness

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

STEPS = 48  # of a drawn line
AXIS = "Accuracy in percent on each test set against that on the task's own test images of the same classes. Dashed: equal."
WITH_LINE = "Line and small dots: networks of standard training (ImageNet Testbed); above it, effective robustness is positive."


def _tables(boards: Sequence[Board], records: Sequence[Record]) -> list[RobustnessTable]:
    (board,) = boards
    return robustness(board, by_setting(records).get(board.key, []))


def _points(boards: Sequence[Board], records: Sequence[Record]) -> dict[str, Any]:
    tables = _tables(boards, records)
    if not tables:
        return {}
    axis = f"{AXIS} {WITH_LINE}" if any(known for table in tables for known in table.baselines) else AXIS
    names = {row.row.backbone for table in tables for row in table.rows}
    panels = [panel for table in tables for panel in _panels(table, len(tables) > 1)]
    return {"count": len(names), "what": "backbones", "axis": axis, "panels": panels}


def _panels(table: RobustnessTable, several: bool) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(table.sets):
        known, shifts = (
            table.baselines[i],
            [(one.row, shift) for one in table.rows if (shift := one.shifts[i])],
        )
        points = [
            (row.backbone, row.family, round(shift.inside, 5), round(shift.outside, 5), shift.effective)
            for row, shift in shifts
        ]
        line = line_of(known, [shift.inside for _, shift in shifts])
        yield {
            "title": f"{table.task} · {name}" if several else name,
            "points": points,
            "line": [[round(x, 4), round(y, 4)] for x, y in line],
            "standard": [[round(x, 4), round(y, 4)] for x, y in known.points] if known else [],
        }


def line_of(known: Baseline | None, inside: Sequence[float]) -> list[tuple[float, float]]:
    """Points of the line of standard models, as far as these models and the shown ones reach."""
    if known is None:
        return []
    low, high = min([*inside, known.points[0][0]]), max([*inside, known.points[-1][0]])
    steps = (low + (high - low) * k / STEPS for k in range(STEPS + 1))
    return [(x, known.expected(x)) for x in steps if 0 < x < 1]


def _draw(boards: Sequence[Board], records: Sequence[Record], families: Families) -> list[Drawing]:
    found = []
    for table in _tables(boards, records):
        spec = robustness_chart(table, families)
        label = f"Accuracy on further test sets of {table.task} against accuracy in distribution; the table has the numbers."
        found.append(Drawing(spec, label, table.task if len(boards) > 1 else ""))
    return found


def robustness_chart(table: RobustnessTable, families: Families) -> Spec:
    """A panel for each test set: networks as points, the line of standard models, and where both accuracies are equal."""
    panels: list[Any] = []
    for i, name in enumerate(table.sets):
        data = chart_data(
            [
                {
                    "backbone": one.row.backbone,
                    "family": one.row.family,
                    "inside": 100 * shift.inside,
                    "outside": 100 * shift.outside,
                }
                for one in table.rows
                if (shift := one.shifts[i])
            ]
        )
        x = alt.X("inside:Q", title="in distribution, %", scale=alt.Scale(zero=False))
        y = alt.Y("outside:Q", title=f"{name}, %", scale=alt.Scale(zero=False))
        points = alt.Chart(data).mark_point(filled=True, size=60, opacity=1)
        layers: list[Any] = [points.encode(x, y, families.colour(data["family"]), description="backbone:N")]
        line = line_of(table.baselines[i], [value / 100 for value in data["inside"]])
        ends = [min(data["inside"]), max(data["inside"])]
        layers.append(_path([(each, each) for each in ends], dash=[4, 3]))
        if line:
            layers.append(_path([(100 * across, 100 * up) for across, up in line]))
        panels.append(alt.layer(*layers).properties(width=230, height=200, title=name))
    return alt.concat(*panels, columns=3)


def _path(points: Sequence[tuple[float, float]], dash: Sequence[int] = (1, 0)) -> alt.Chart:
    data = pd.DataFrame(points, columns=["inside", "outside"])
    line: alt.Chart = alt.Chart(data).mark_line(color=INK, strokeDash=list(dash))
    drawn: alt.Chart = line.encode(x="inside:Q", y="outside:Q")
    return drawn


ROBUSTNESS = Chart("robustness", "Accuracy on further test sets", "board", _draw, points=_points)
