"""The tidy table as CSV, JSON or Parquet, and the boards as Markdown, LaTeX or plain text, with the suite's published rows."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from vitbench.core.record import Record
from vitbench.report.board_parts import Cell, Column
from vitbench.report.build import boards
from vitbench.report.leaderboard import GROUP_MEAN, Board, Row
from vitbench.report.model_card import model_card
from vitbench.report.outcomes import Predictions
from vitbench.report.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["csv", "json", "parquet", "md", "latex", "model-card"]
DEPARTS = "†"
TIED = "≈"
INTERVAL = "95 % interval"
ONE_NETWORK = "; one seed: these trained networks only, not these backbones"
NO_VALUE = "no value"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a text that begins so
FORMATS: tuple[Format, ...] = get_args(Format)


def export(records: Sequence[Record], form: Format, predictions: Predictions | None = None) -> bytes:
    """The tidy table, in fractions, as csv, json or parquet; boards, in percent, as md, latex or for a model card."""
    if form == "model-card":
        return model_card(records).encode()
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
    return ("\n".join(render(board) for board in boards(records, predictions=predictions))).encode()


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


def percent(value: float | None, decimals: int = 1) -> str:
    """A fraction as percent with so many decimals; a dash for None."""
    return "–" if value is None else f"{100 * value:.{decimals}f}"


def _cell_text(cell: Cell, column: Column, plus_minus: str) -> str:
    if cell.value is None:
        return "failed" if cell.failed else NO_VALUE if cell.lacking else "–"
    spread = f" {plus_minus} {percent(cell.spread, column.decimals)}" if cell.spread is not None else ""
    some = "" if cell.complete else f" ({cell.seeds}/{cell.seeds_expected} seeds)"
    return f"{percent(cell.value, column.decimals)}{spread}{DEPARTS if cell.departures else ''}{some}"


def _footnote(board: Board) -> list[str]:
    """What ± and marks mean, the reasons for marks on cells, and for columns that do not show what was asked for."""
    measured = [row for row in board.rows if not row.published]
    seeds = sorted({cell.seeds for row in measured for cell in row.cells if cell.spread is not None})
    counts = " or ".join(map(str, seeds))
    reasons = sorted({reason for row in board.rows for cell in row.cells for reason in cell.departures})
    several = sum(row.first for row in measured) > 1
    scope = ONE_NETWORK if any(row.one_network for row in measured) else ""
    notes = [
        f"± is the standard deviation over {counts} seeds (n − 1), not an interval" if seeds else "",
        f"95 % intervals are over test images{'' if scope else ' and seeds'}; tasks are fixed{scope}"
        if any(row.interval for row in measured) else "",
        f"no interval known: {', '.join(board.without_interval)}" if board.without_interval else "",
        f"{TIED} cannot be told from the best mean (95 %)" if several else "",
        f"{DEPARTS} differs from the reference: {'; '.join(reasons)}" if reasons else "",
    ]  # fmt: skip
    return [*(note for note in notes if note), *board.notes]


def _mean_text(row: Row) -> str:
    return percent(row.mean) if row.mean is not None else f"{row.done}/{len(row.tasks)}"


def _interval_text(row: Row, board: Board) -> str:
    """The interval of a row's mean, marked if it cannot be told from the best of several."""
    interval = row.interval
    tied = row.first and sum(each.first for each in board.rows) > 1
    shown = "–" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"
    return f"{shown} {TIED}" if tied else shown


def marked(row: Row) -> str:
    """A backbone's name, marked if it is untrained or its row is published."""
    if row.published:
        return f"{row.backbone} [{row.source}]"
    return f"{row.backbone} (untrained)" if row.weights == "untrained" else row.backbone


def _means(board: Board) -> list[str]:
    """The headings of means and core-days."""
    groups = [*board.groups, GROUP_MEAN] if board.groups else []
    return [*groups, "mean", INTERVAL, *(["TPUv3-core-days"] if _has_core_days(board) else [])]


def _mean_texts(board: Board, row: Row) -> list[str]:
    texts = [percent(mean) for _, mean in board.group_means(row)]
    texts += [_mean_text(row), _interval_text(row, board)]
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
        cells = [_cell_text(cell, column, "±") for cell, column in zip(row.cells, board.columns, strict=True)]
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
    head = " & ".join(
        ["Backbone", *map(_tex, board.tasks), *(_tex(name[0].upper() + name[1:]) for name in means)]
    )
    lines = [
        f"% {' '.join(board.label.split())}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        cells = [
            _bold(
                _cell_text(cell, column, r"$\pm$").replace("–", "--").replace(DEPARTS, r"$\dagger$"),
                cell.best,
            )
            for cell, column in zip(row.cells, board.columns, strict=True)
        ]
        ends = [_tex(text).replace("–", "--").replace(TIED, r"$\approx$") for text in _mean_texts(board, row)]
        place = -3 if _has_core_days(board) else -2
        ends[place] = _bold(ends[place], row.rank == 1)
        lines.append(" & ".join([_tex(marked(row)), *cells, *ends]) + r" \\")
    notes = [f"% {note}" for note in _footnote(board)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


def _bold(text: str, best: bool) -> str:
    return rf"\textbf{{{text}}}" if best else text


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
            *(_cell_text(cell, column, "±") for cell, column in zip(row.cells, board.columns, strict=True)),
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
