"""The leaderboard: one HTML file, made from records alone, that opens from disk and loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from vitbench.records import Record
from vitbench.report.charts import PALETTE, shots_curves
from vitbench.report.details import details
from vitbench.report.exports import percent
from vitbench.report.views import Board, Row, boards, departures_of, failures, shots_points

_FOLDER = Path(__file__).parent / "page"


@dataclass(frozen=True)
class OverviewRow:
    """A backbone's mean in every setting; None where a row is incomplete, with how far it is."""

    row: Row
    means: tuple[tuple[float | None, str], ...]


def render(records: Sequence[Record], estimated: Mapping[str, float] | None = None) -> str:
    """The page for these records; `estimated` has the seconds that a dry run expected, by key."""
    found = boards(records)
    environment = page_environment()
    suites = list(dict.fromkeys(record.job.suite.name for record in records))
    facts = {(r.job.preprocess, r.preprocess) for r in records if r.preprocess}
    return environment.get_template("page.html.j2").render(
        title=", ".join(suites),
        boards=found,
        overview=_overview(found),
        statuses=Counter(record.status for record in records),
        failures=failures(records),
        curves=Markup(shots_curves(shots_points(records))),
        untrained=any(row.weights == "untrained" for board in found for row in board.rows),
        limits=sorted({board.limit for board in found if board.limit is not None}),
        skipped=sorted({name for r in records if r.data for name in r.data.skipped}),
        departures=Counter(reason for record in records for reason in departures_of(record)).most_common(20),
        notes=Counter(note for record in records for note in record.notes).most_common(20),
        preprocessing=sorted(facts),
        devices=Counter(record.env.device for record in records).most_common(),
        versions=sorted({r.env.packages.get("vitbench", "") for r in records}),
        newest=max(record.created for record in records)[:10],
        palette=PALETTE,
        details=details(records),
        expected=_expected(records, estimated or {}),
        js=Markup((_FOLDER / "page.js").read_text(encoding="utf-8")),
        record_js=Markup((_FOLDER / "record.js").read_text(encoding="utf-8")),
        **page_styles(),
    )


def page_environment() -> jinja2.Environment:
    """Templates of pages: everything is escaped, and nothing may be left undefined."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(percent=percent, count=_count, seconds=_seconds)
    return environment


def page_styles() -> dict[str, Markup]:
    """The style sheet that pages carry within them."""
    return {"css": Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))}


def _overview(found: Sequence[Board]) -> list[OverviewRow]:
    by_board = [{row.backbone: row for row in board.rows} for board in found]
    first = {name: row for rows in reversed(by_board) for name, row in rows.items()}
    names = dict.fromkeys(name for rows in by_board for name in rows)

    def mean(row: Row | None) -> tuple[float | None, str]:
        return (row.mean, f"{row.done}/{len(row.cells)}") if row else (None, "–")

    return [OverviewRow(first[name], tuple(mean(rows.get(name)) for rows in by_board)) for name in names]


def _expected(records: Sequence[Record], estimated: Mapping[str, float]) -> tuple[int, float, float] | None:
    """Of the jobs that a dry run has estimated: how many, the seconds it expected, and the seconds of work they took."""
    pairs = [(estimated[r.key], r.cost.work_s) for r in records if r.cost and r.key in estimated]
    if not pairs:
        return None
    return len(pairs), sum(expected for expected, _ in pairs), sum(taken for _, taken in pairs)


def _count(number: float | None) -> str:
    """A large number, short: 23.5 M, 4.1 G."""
    if number is None:
        return "–"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def _seconds(seconds: float) -> str:
    """A duration, short."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
