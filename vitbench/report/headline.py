"""What a board says in words: its heading, and one sentence of who is best, what is cheapest, and what is incomplete."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.core.format import quantity
from vitbench.report.leaderboard import Board, Row

VTAB_TASKS = 19
WITHIN = 0.01  # one point, of the cheapest
MOST_NAMED = 3


def heading(board: Board) -> str:
    """Such as `6 backbones on VTAB-1k, fine-tuned on 1,000 images, 3 seeds`."""
    count = len(board.measured)
    seeds = max((cell.seeds_expected for row in board.measured for cell in row.cells), default=1)
    seeded = any(cell.seeds > 1 or cell.one_network for row in board.measured for cell in row.cells)
    parts = [f"{count} backbone{'s' if count != 1 else ''} on {tasks_in_words(board)}", board.name.sentence]
    if seeded:
        parts.append(f"{seeds} seed{'s' if seeds > 1 else ''}")
    return ", ".join(parts)


def tasks_in_words(board: Board) -> str:
    """The tasks of a board by their names, or how many there are."""
    tasks = [column.label for column in board.columns if column.counted]
    in_groups = sum(len(positions) for positions in board.groups.values())
    if len(tasks) == in_groups == VTAB_TASKS:
        return "VTAB-1k" if board.budget == "1k" else "VTAB"
    if len(tasks) > MOST_NAMED:
        return f"{len(tasks)} tasks"
    return " and ".join([", ".join(tasks[:-1]), tasks[-1]] if len(tasks) > 1 else tasks)


def sentences(board: Board) -> list[str]:
    """The best backbone, and the cheapest within one point of it."""
    ranked = [row for row in board.measured if row.rank is not None]
    found = [_best(ranked), _cheapest(ranked)] if ranked else ["No backbone has results on every task yet."]
    return [text for text in found if text]


def _best(ranked: Sequence[Row]) -> str:
    best = [row for row in ranked if row.rank == 1]
    first = best[0]
    shown = f"{_percent(first.mean)} %"
    if first.interval:
        shown += f" (95 % interval {_percent(first.interval.low)} to {_percent(first.interval.high)})"
    if len(best) > 1:
        return f"Best: {_listed([row.backbone for row in best])}, tied at {shown}."
    close = [row.backbone for row in ranked if row.first and row is not first]
    apart = f", not distinguishable from {_listed(close)}" if close else ""
    return f"Best: {first.backbone}, {shown}{apart}."


def _cheapest(ranked: Sequence[Row]) -> str:
    """The least FLOPs per image among those within one point of the best."""
    top = ranked[0].mean or 0.0
    close = [row for row in ranked if row.mean is not None and row.mean >= top - WITHIN]
    known = [(row.compute.flops_per_image, row) for row in close if row.compute.flops_per_image is not None]
    if len(ranked) < 2 or len(known) < len(close):
        return ""
    flops, row = min(known, key=lambda pair: pair[0])
    cost = f"{quantity(flops, 'FLOPs')} per image"
    if row is ranked[0]:
        return f"It is also the cheapest within one point ({cost})."
    return f"Cheapest within one point: {row.backbone}, {_percent(row.mean)} % at {cost}."


def gaps(board: Board) -> str:
    """The rows that are not ranked and what they lack; '' if all are ranked."""
    lacking = [row for row in board.measured if row.rank is None]
    if not lacking:
        return ""
    named = [f"{row.backbone} ({missing_in_words(board, row)})" for row in lacking[:MOST_NAMED]]
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    return f"Incomplete, not ranked: {', '.join(named)}{more}."


def missing_in_words(board: Board, row: Row) -> str:
    """Which tasks a row lacks, such as `lacks vtab/dtd: 2 of 3 seeds`."""
    if row.failure:
        return "failed"
    missing = [(board.columns[i].label, row.cells[i]) for i in row.missing]
    if len(missing) == len(row.tasks) and not any(cell.seeds for _, cell in missing):
        return "no results"
    if len(missing) > MOST_NAMED:
        return f"lacks {len(missing)} of {len(row.tasks)} tasks"
    parts = [
        f"{label}: {cell.seeds} of {cell.seeds_expected} seeds" if cell.seeds else label
        for label, cell in missing
    ]
    return f"lacks {', '.join(parts)}"


def _listed(names: Sequence[str]) -> str:
    """Names in words, the first few of many."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
