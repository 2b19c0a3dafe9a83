"""Charts written to files for papers: SVG, PNG and PDF."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import vl_convert

from vitbench.core.files import write_atomically
from vitbench.core.record import Record
from vitbench.report.charts import CHARTS
from vitbench.report.charts.chart import Chart, Drawing
from vitbench.report.charts.families import Families
from vitbench.report.charts.style import Spec, styled
from vitbench.report.keys import by_setting
from vitbench.report.leaderboard import Board

PRINT_INK = "#333333"


def figures(boards: Sequence[Board], records: Sequence[Record]) -> Iterator[tuple[str, Spec]]:
    """All charts that can be drawn, each with the name of its file."""
    names = Counter(_file_name(board.label) for board in boards)
    settings = by_setting(records)
    families = Families(row.family for board in boards for row in board.rows)
    for board in boards:
        name = _file_name(board.label)
        name = f"{name}-{board.key[:4]}" if names[name] > 1 else name
        for chart in CHARTS:
            if chart.scope == "board":
                for drawing in chart.draw([board], settings[board.key], families):
                    yield f"{name}-{_stem(chart, drawing)}", drawing.spec
    for chart in CHARTS:
        if chart.scope == "run":
            for drawing in chart.draw(boards, records, families):
                yield _stem(chart, drawing), drawing.spec


def write_figures(folder: Path, boards: Sequence[Board], records: Sequence[Record]) -> list[Path]:
    """Write each chart as SVG, PNG (three pixels per point) and PDF, dark ink on white; the paths written."""
    written = []
    for name, chart_spec in figures(boards, records):
        svg = vl_convert.vegalite_to_svg(
            styled(chart_spec, PRINT_INK, "white")
        )  # Vega runs once for all three
        kinds: dict[str, str | bytes] = {
            "svg": svg,
            "png": vl_convert.svg_to_png(svg, scale=3),
            "pdf": vl_convert.svg_to_pdf(svg),
        }
        for kind, content in kinds.items():
            path = folder / f"{name}.{kind}"
            write_atomically(path, content)
            written.append(path)
    return written


def _stem(chart: Chart, drawing: Drawing) -> str:
    return f"{chart.name}-{drawing.variant}" if drawing.variant else chart.name


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:80] or "board"
