"""Which charts a set of boards gives: for the page, and as files for papers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import vl_convert

from vitbench.core.files import write_atomically
from vitbench.core.record import Record
from vitbench.report.charts.cost import cost_charts
from vitbench.report.charts.intervals import groups_chart, seeds_chart
from vitbench.report.charts.shots import shots_chart, shots_points
from vitbench.report.charts.style import Chart, styled
from vitbench.report.charts.trials import trial_points, trials_chart
from vitbench.report.keys import setting_key
from vitbench.report.leaderboard import Board

PRINT_INK = "#333333"


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
