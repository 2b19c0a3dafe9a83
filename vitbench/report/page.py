"""The page of a leaderboard: one self-contained HTML file, generated from records alone."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from vitbench.core.format import duration, printable, quantity
from vitbench.core.gc_pause import gc_paused
from vitbench.core.record import Record
from vitbench.report.board_parts import Cell, Column
from vitbench.report.board_view import board_view, choices, default_board
from vitbench.report.build import boards, failures
from vitbench.report.cell_details import Worst, details
from vitbench.report.cells import departures_of
from vitbench.report.charts import CHARTS
from vitbench.report.charts.chart import Chart
from vitbench.report.charts.cost import COST
from vitbench.report.charts.families import DASHES, Families
from vitbench.report.compute import run_device_seconds
from vitbench.report.export import percent
from vitbench.report.keys import by_setting
from vitbench.report.leaderboard import Board, Row, any_published
from vitbench.report.outcomes import Predictions
from vitbench.report.packing import packed
from vitbench.report.pairs import plain_pairs
from vitbench.report.published_match import tally
from vitbench.report.robustness import robustness
from vitbench.report.several_runs import repeated, run_summaries
from vitbench.report.shown_metric import axis_title

_FOLDER = Path(__file__).parent / "templates"
SCRIPTS = (
    "state.js", "page.js", "rows.js", "estimates.js", "means.js", "columns.js", "heat.js", "transpose.js", "copies.js",
    "labels.js", "drawing.js", "cost_chart.js", "row_panels.js", "curve_panels.js", "plane_panels.js", "live_charts.js",
    "saved_charts.js", "reliability.js", "record.js", "compare.js", "start.js",
)  # fmt: skip
FIRST_ROWS = 60  # of a large board, which the page lays out at once; scripts lay out the rest
MOST_LISTED = 3000  # results in one table


@dataclass(frozen=True)
class Extras:
    """What a page shows besides records: seconds estimated by a dry run, prefixes of published rows, images by cell.

    `unreadable` are messages about files that cannot be read; `predictions` make intervals as long as they have to be.
    `runs` are the records of each of several runs by its name, also those that others replace. `reload_s`:
    an open page takes a newer one every so many seconds, while a run goes on; 0: never.
    """

    estimated: Mapping[str, float] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    worst: Worst = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    predictions: Predictions | None = None
    runs: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    reload_s: int = 0


@dataclass(frozen=True)
class OverviewRow:
    """A backbone's mean in every setting; None where its row is incomplete, with the number of finished tasks."""

    row: Row
    means: tuple[tuple[float | None, str], ...]


@dataclass(frozen=True)
class ShownChart:
    """A chart that a script draws, with the points that the tables lack, as JSON."""

    chart: Chart
    points: str


@dataclass(frozen=True)
class Compared:
    """A measured cell with the published value of the same setting."""

    board: Board
    row: Row
    column: Column
    cell: Cell


def render(records: Sequence[Record], extras: Extras | None = None) -> str:
    """The page for these records."""
    with gc_paused():
        return _rendered(records, extras or Extras())


def _rendered(records: Sequence[Record], extras: Extras) -> str:
    found = boards(records, extras.published, extras.predictions, in_pairs=True)
    compared = list(_compared(found))
    suites = list(dict.fromkeys(record.job.suite.name for record in records))
    rows = [row for board in found for row in board.rows]
    settings = by_setting(records)
    families = Families(row.family for row in rows)
    views = [board_view(board) for board in found]
    return (
        page_environment()
        .get_template("page.html.j2")
        .render(
            title=", ".join(suites),
            views=views,
            opened=default_board(views),
            choices=choices(found),
            looks={name: [look.colour, look.shape] for name, look in families.looks.items()},
            first_rows=FIRST_ROWS,
            packed=_packed_rows,
            listed=sum(len(row.cells) for row in rows) <= MOST_LISTED,
            reload_s=extras.reload_s,
            summaries=run_summaries(extras.runs),
            repeated=repeated(extras.runs),
            overview=_overview(found),
            charts=[_shown(_charts_for(board), [board], records) for board in found],
            robustness=[robustness(board, settings.get(board.key, [])) for board in found],
            run_charts=_shown([chart for chart in CHARTS if chart.scope == "run"], found, records),
            dashes=DASHES,
            cost_title=COST.title,
            compared=compared,
            tally=tally(one.cell.published for one in compared if one.cell.published),
            items=list(dict.fromkeys(item.item for row in rows for item in row.conformance)),
            families=sorted({row.family for row in rows}),
            data=sorted({row.pretrain_data for row in rows}),
            any_published=any_published(found),
            tunes=any(row.compute.trained_parameters for row in rows),
            weak=any(row.weak for row in rows),
            metric=axis_title(column for board in found for column in board.columns if column.counted),
            failures=failures(records),
            unreadable=[printable(text) for text in extras.unreadable],
            details=packed(details(records, extras.worst, _pairs(found))),
            expected=_expected(records, extras.estimated),
            all_device_seconds=run_device_seconds(records),
            js=_scripts(),
            **_notices(records, found),
            **page_styles("board.css", "print.css"),
        )
    )


def _pairs(found: Sequence[Board]) -> dict[str, object]:
    """What is known of the differences of pairs, for the dialog that compares them, by board."""
    return {board.key: plain_pairs(board.pairs, board.columns) for board in found if board.pairs}


def _notices(records: Sequence[Record], found: Sequence[Board]) -> dict[str, object]:
    """The values of notices and notes around the tables."""
    return {
        "statuses": Counter(record.status for record in records),
        "untrained": any(row.weights == "untrained" for board in found for row in board.rows),
        "limits": sorted({board.limit for board in found if board.limit is not None}),
        "skipped": sorted({name for r in records if r.data for name in r.data.skipped}),
        "one_network": any(row.one_network for board in found for row in board.rows),
        "records_only": any(
            c.seeds > 1 and c.ci_low is not None and not c.known_images
            for b in found for row in b.rows if not row.published for c in row.cells
        ),
        "without_interval": list(dict.fromkeys(label for board in found for label in board.without_interval)),
        "departures": Counter(reason for record in records for reason in departures_of(record)).most_common(20),
        "notes": Counter(note for record in records for note in record.notes).most_common(20),
        "preprocessing": sorted({(r.job.preprocess, r.preprocess) for r in records if r.preprocess}),
        "devices": Counter(record.env.device for record in records).most_common(),
        "versions": sorted({r.env.packages.get("vitbench", "") for r in records}),
        "updated": max(record.created for record in records)[:10],
    }  # fmt: skip


@cache
def _scripts() -> Markup:
    """All scripts without indentation and lines of comment."""
    text = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return Markup(re.sub(r"^\s*(?://.*\n)?", "", text, flags=re.MULTILINE))


def _packed_rows(lines: Sequence[str]) -> Markup:
    """Rows of a large board as HTML, for the script that lays them out."""
    return packed(json.dumps([" ".join(line.split()) for line in lines]))


@cache
def page_environment() -> jinja2.Environment:
    """The environment of all page templates: values are escaped, and undefined names are errors."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=percent, quantity=_quantity, duration=duration, short=_short, breakable=_breakable
    )
    return environment


def page_styles(*more: str) -> dict[str, Markup]:
    """The style sheet embedded in all pages, and `more` of them."""
    return {
        "css": Markup("\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", *more)))
    }


def _charts_for(board: Board) -> list[Chart]:
    n_cells = sum(cell.value is not None for row in board.rows for cell in row.cells)
    return [
        chart
        for chart in CHARTS
        if chart.scope == "board" and (chart.most_cells is None or n_cells <= chart.most_cells)
    ]


def _shown(charts: Iterable[Chart], found: Sequence[Board], records: Sequence[Record]) -> list[ShownChart]:
    every = [(chart, chart.points(found, records)) for chart in charts if chart.points]
    return [ShownChart(chart, json.dumps(points, separators=(",", ":"))) for chart, points in every if points]


def _compared(found: Iterable[Board]) -> Iterable[Compared]:
    for board in found:
        for row in board.rows:
            for column, cell in zip(board.columns, row.cells, strict=True):
                if cell.published is not None:
                    yield Compared(board, row, column, cell)


def _overview(found: Sequence[Board]) -> list[OverviewRow]:
    by_board = [{row.backbone: row for row in board.rows if not row.published} for board in found]
    first = {name: row for rows in reversed(by_board) for name, row in rows.items()}
    names = dict.fromkeys(name for rows in by_board for name in rows)

    def mean(row: Row | None) -> tuple[float | None, str]:
        return (row.mean, f"{row.done}/{len(row.tasks)}") if row else (None, "–")

    return [OverviewRow(first[name], tuple(mean(rows.get(name)) for rows in by_board)) for name in names]


def _expected(records: Sequence[Record], estimated: Mapping[str, float]) -> tuple[int, float, float] | None:
    """For jobs estimated by a dry run: their number, the estimated seconds, and the seconds they took."""
    pairs = [(estimated[r.key], r.cost.work_s) for r in records if r.cost and r.key in estimated]
    if not pairs:
        return None
    return len(pairs), math.fsum(expected for expected, _ in pairs), math.fsum(taken for _, taken in pairs)


def _quantity(number: float | None) -> str:
    """A number to three digits; a dash for None."""
    return "–" if number is None else quantity(number)


def _short(number: float) -> str:
    """A number for scripts, to twelve digits: means of equal counts stay equal."""
    return f"{number:.12g}"


def _breakable(name: str) -> Markup:
    """A name that may be broken after an underscore or a slash."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(name))))
