"""The tidy table as CSV, JSON or Parquet, and the boards as Markdown, LaTeX or plain text, with the suite's published rows."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from vitbench.core.record import Record
from vitbench.report.build import boards
from vitbench.report.leaderboard import GROUP_MEAN, Board, Cell, Row
from vitbench.report.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["csv", "json", "parquet", "md", "latex"]
DEPARTS = "†"
NO_VALUE = "no value"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a text that begins so
FORMATS: tuple[Format, ...] = ("csv", "json", "parquet", "md", "latex")


def export(records: Sequence[Record], form: Format) -> bytes:
    """The tidy table, in fractions, as csv, json or parquet; the boards, in percent, as md or latex."""
    if form == "parquet":
        buffer = io.BytesIO()
        tidy(records).to_parquet(buffer, index=False)
        return buffer.getvalue()
    if form == "csv":
        return str(_guarded(tidy(records)).to_csv(index=False)).encode()
    if form == "json":
        table = tidy(records).astype(object)
        rows = table.where(table.notna(), None).to_dict(orient="records")
        return (json.dumps(rows, indent=1, ensure_ascii=False, default=lambda v: v.item()) + "\n").encode()
    render = markdown if form == "md" else latex
    return ("\n".join(render(board) for board in boards(records))).encode()


def _guarded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before texts that a spreadsheet would take for a formula, and one kind of line ends.

    Before Python 3.13 `csv` does not quote a text with a bare carriage return, which then ends the row.
    """

    def text(value: object) -> object:
        if not isinstance(value, str):
            return value
        lines = value.replace("\r\n", "\n").replace("\r", "\n")
        return f"'{lines}" if value.startswith(FORMULA) else lines

    return table.map(text)


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


def _cell_text(cell: Cell, plus_minus: str) -> str:
    if cell.value is None:
        return "failed" if cell.failed else NO_VALUE if cell.lacking else "–"
    spread = f" {plus_minus} {100 * cell.spread:.1f}" if cell.spread is not None else ""
    some = "" if cell.complete else f" ({cell.seeds}/{cell.seeds_expected} seeds)"
    return f"{percent(cell.value)}{spread}{DEPARTS if cell.departures else ''}{some}"


def _footnote(board: Board) -> list[str]:
    """The reasons for marks on cells, and for columns that do not show what was asked for."""
    reasons = sorted({reason for row in board.rows for cell in row.cells for reason in cell.departures})
    notes = [f"{DEPARTS} differs from the reference: {'; '.join(reasons)}"] if reasons else []
    return [*notes, *board.notes]


def _mean_text(row: Row) -> str:
    return percent(row.mean) if row.mean is not None else f"{row.done}/{len(row.tasks)}"


def marked(row: Row) -> str:
    """A backbone's name, marked if it is untrained or its row is published."""
    if row.published:
        return f"{row.backbone} [{row.source}]"
    return f"{row.backbone} (untrained)" if row.weights == "untrained" else row.backbone


def _means(board: Board) -> list[str]:
    """The headings of means and core-days."""
    groups = [*board.groups, GROUP_MEAN] if board.groups else []
    return [*groups, "mean", *(["TPUv3-core-days"] if _has_core_days(board) else [])]


def _mean_texts(board: Board, row: Row) -> list[str]:
    texts = [percent(mean) for _, mean in board.group_means(row)] + [_mean_text(row)]
    return [*texts, _core_days(row)] if _has_core_days(board) else texts


def _has_core_days(board: Board) -> bool:
    return any(row.compute.core_days is not None for row in board.rows)


def _core_days(row: Row) -> str:
    """Core-days as published; `~` marks those converted from published exaFLOPs."""
    cost = row.compute
    if cost.core_days is None:
        return "–"
    return f"~{cost.core_days:.3g}" if cost.estimated else f"{cost.core_days:g}"


def markdown(board: Board) -> str:
    """A board as a Markdown table."""
    head = ["\\#", "backbone", *map(_md, board.tasks), *_means(board)]
    lines = [
        f"### {_md(board.label)}",
        "",
        _md_line(head),
        _md_line(["--:", ":--", *["--:"] * (len(head) - 2)]),
    ]
    for row in board.rows:
        cells = [_cell_text(cell, "±") for cell in row.cells]
        lines.append(
            _md_line([str(row.rank or "–"), _md(marked(row)), *cells, *map(_md, _mean_texts(board, row))])
        )
    notes = [f"\n{_md(note)}" for note in _footnote(board)]
    return "\n".join([*lines, *notes, ""])


def _md_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md(text: str) -> str:
    return "".join(f"\\{c}" if c in "|\\`*_<>[]#" else c for c in " ".join(text.split()))


def latex(board: Board) -> str:
    """A board as a booktabs table."""
    means = _means(board)
    columns = "l" + "r" * (len(board.tasks) + len(means))
    head = " & ".join(["Backbone", *map(_tex, board.tasks), *(name[0].upper() + name[1:] for name in means)])
    lines = [
        f"% {' '.join(board.label.split())}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        cells = [
            _cell_text(cell, r"$\pm$").replace("–", "--").replace(DEPARTS, r"$\dagger$") for cell in row.cells
        ]
        ends = [_tex(text).replace("–", "--") for text in _mean_texts(board, row)]
        lines.append(" & ".join([_tex(marked(row)), *cells, *ends]) + r" \\")
    notes = [f"% {note}" for note in _footnote(board)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    clean = " ".join(text.split())
    return "".join(_TEX.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in clean)


def terminal(board_list: Sequence[Board]) -> str:
    """The measured rows of the boards as plain text, for the end of a run."""
    return "\n\n".join(_text_table(board) for board in board_list)


def _text_table(board: Board) -> str:
    head = ["#", "backbone", *board.tasks, "mean"]
    body = [
        [
            str(row.rank or "–"),
            marked(row),
            *(_cell_text(c, "±") for c in row.cells),
            _mean_text(row),
        ]
        for row in board.rows
        if not row.published
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

    def text(line: Sequence[str]) -> str:
        parts = [cell.ljust(widths[i]) if i == 1 else cell.rjust(widths[i]) for i, cell in enumerate(line)]
        return "  ".join(parts).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([board.label, rule, text(head), *map(text, body), *board.notes])
