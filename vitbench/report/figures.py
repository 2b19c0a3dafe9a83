"""Which charts a set of boards gives: for the page, and as files for papers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from vitbench.files import write_atomically
from vitbench.records import Record
from vitbench.report.board import Board, Row
from vitbench.report.charts import (
    Chart,
    CostPoint,
    cost_chart,
    interval_chart,
    shots_chart,
    styled,
    trials_chart,
)
from vitbench.report.curves import shots_points, trial_points
from vitbench.report.frame import setting_key

# The three quantities, never on one axis.
COSTS = {
    "A": "pre-training, TPUv3-core-days (published; with a bar: converted from exaFLOP)",
    "B": "forward pass, GFLOP an image (counted)",
    "C": "seconds, all tasks and seeds (measured here)",
}
PRINT_INK = "#333333"


def cost_charts(board: Board) -> dict[str, Chart]:
    """Mean accuracy against each of the three costs, where at least two complete rows know it."""
    charts = {}
    devices = Counter(row.compute.device for row in board.rows if row.compute.device)
    device = devices.most_common(1)[0][0] if devices else ""  # seconds of several are not compared
    for quantity, title in COSTS.items():
        title = f"{title} on {device}" if quantity == "C" else title
        points = [
            CostPoint(
                row.backbone, row.family, cost, 100 * row.mean, "published" if row.published else "measured",
                *(row.compute.estimated or (0.0, 0.0) if quantity == "A" else (0.0, 0.0)),
            )
            for row in board.rows
            if row.mean is not None and (cost := _cost(row, quantity)) and (quantity != "C" or row.compute.device == device)
        ]  # fmt: skip
        chart = cost_chart(points, title)
        if chart is not None:
            charts[quantity] = chart
    return charts


def _cost(row: Row, quantity: str) -> float | None:
    cost = row.compute
    if quantity == "A":
        return cost.core_days
    if quantity == "B":
        return None if cost.flops_per_image is None else cost.flops_per_image / 1e9
    return cost.seconds


def groups_chart(board: Board) -> Chart | None:
    """Means over all of VTAB and over its groups (ViT paper, Fig. 2), complete rows only."""
    if not board.groups:
        return None
    rows: list[dict[str, Any]] = []
    for row in board.rows:
        means = [
            ("VTAB, 19 tasks" if len(row.tasks) == 19 else "all tasks", row.mean),
            *board.group_means(row),
        ]
        rows += [
            {"panel": name.capitalize() if name in board.groups else name, "backbone": row.backbone, "value": mean,
             "low": None, "high": None, "seeds": []}
            for name, mean in means if mean is not None and name != "group means"
        ]  # fmt: skip
    return interval_chart(rows, 4)


def seeds_chart(board: Board) -> Chart | None:
    """Every cell: its mean, its seeds, and the 95 % interval over test images, which is another thing."""
    rows: list[dict[str, Any]] = [
        {"panel": column.label, "backbone": row.backbone, "value": cell.value, "low": cell.ci_low, "high": cell.ci_high,
         "seeds": list(cell.by_seed)}
        for i, column in enumerate(board.columns)
        for row in board.rows if not row.published
        if (cell := row.cells[i]).value is not None
    ]  # fmt: skip
    return interval_chart(rows, 4)


def figures(boards: Sequence[Board], records: Sequence[Record]) -> Iterator[tuple[str, Chart]]:
    """All charts that there are, each with a name for a file."""
    names = Counter(_file_name(board.label) for board in boards)
    for board in boards:
        name = _file_name(board.label)
        name = f"{name}-{board.key[:4]}" if names[name] > 1 else name
        own = [record for record in records if setting_key(record.job) == board.key]
        for quantity, chart in cost_charts(board).items():
            yield f"{name}-cost-{quantity}", chart
        known = {
            "groups": groups_chart(board),
            "seeds": seeds_chart(board),
        }
        points = trial_points(own)
        for option in dict.fromkeys(point.option for point in points):
            known[f"trials-{option}"] = trials_chart([point for point in points if point.option == option])
        yield from ((f"{name}-{what}", chart) for what, chart in known.items() if chart is not None)
    shots = shots_chart(shots_points(records))
    if shots is not None:
        yield "shots", shots


def write_figures(folder: Path, boards: Sequence[Board], records: Sequence[Record]) -> list[Path]:
    """Each chart as SVG, PNG (three pixels a point) and PDF, dark ink on white; what was written."""
    written = []
    for name, chart in figures(boards, records):
        spec = styled(chart, PRINT_INK, "white")
        kinds: dict[str, str | bytes] = {
            "svg": vl_convert.vegalite_to_svg(spec),
            "png": vl_convert.vegalite_to_png(spec, scale=3),
            "pdf": vl_convert.vegalite_to_pdf(spec),
        }
        for kind, content in kinds.items():
            path = folder / f"{name}.{kind}"
            write_atomically(path, content)
            written.append(path)
    return written


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:80] or "board"
