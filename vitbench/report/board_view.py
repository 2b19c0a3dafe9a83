"""What the page shows of one board besides its cells: words, costs for the chart, Pareto fronts, and its choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vitbench.report.build import budget_rank
from vitbench.report.charts.cost import QUANTITIES, cost_of, main_device, on_front
from vitbench.report.charts.intervals import MOST_SEEDED
from vitbench.report.compute import COMPUTE_COLUMNS, ComputeColumn
from vitbench.report.headline import gaps, heading, missing_in_words, sentences
from vitbench.report.leaderboard import Board, Row

MOST_OPEN = 6  # tasks; the tasks of a board with more are folded when the page opens
QUANTITY_NAMES = {
    "A": "Pre-training",
    "P": "Pre-training FLOPs",
    "B": "FLOPs",
    "C": "Time",
    "T": "Trained parameters",
}


@dataclass(frozen=True)
class RowView:
    """A row with its costs on the chart's axes, the axes on whose Pareto front it is, and what it lacks."""

    row: Row
    costs: tuple[float | None, ...]
    front: str
    missing: str

    @property
    def plotted(self) -> str:
        """The costs as text, nothing where one is unknown or not comparable."""
        return ",".join("" if cost is None else f"{cost:.6g}" for cost in self.costs)


@dataclass(frozen=True)
class BoardView:
    """A board with what the page says about it."""

    board: Board
    heading: str
    sentences: tuple[str, ...]
    gaps: str
    rows: tuple[RowView, ...]
    axes: tuple[tuple[str, str, str], ...]  # of the chart: letter, short name, title
    with_seeds: bool  # whether a chart shows the seeds of each cell

    @cached_property
    def compute_columns(self) -> list[ComputeColumn]:
        """The costs that are known of a row, and are not zero of all."""
        return [each for each in COMPUTE_COLUMNS if any(each.value(one.row.compute) for one in self.rows)]

    @property
    def folds(self) -> list[tuple[str, int]]:
        """Headings over the task columns, which fold them: the VTAB groups, or all tasks."""
        return self.board.heads or [("tasks", len(self.board.columns))]

    @property
    def folded(self) -> bool:
        """Whether the tasks are folded when the page opens."""
        return len(self.board.columns) > MOST_OPEN

    @property
    def lacking(self) -> bool:
        """Whether some rows lack tasks that others have, so that all can be ranked by what they have in common."""
        return bool(self.board.common)


def board_view(board: Board) -> BoardView:
    """What the page shows of a board."""
    device = main_device(board)
    costs = [tuple(_comparable(row, quantity, device) for quantity in QUANTITIES) for row in board.rows]
    fronts = [
        on_front([(each[i], row.mean) for each, row in zip(costs, board.rows, strict=True)])
        for i in range(len(QUANTITIES))
    ]
    rows = tuple(
        RowView(
            row,
            costs[k],
            "".join(quantity for i, quantity in enumerate(QUANTITIES) if k in fronts[i]),
            missing_in_words(board, row) if row.mean is None and not row.published else "",
        )
        for k, row in enumerate(board.rows)
    )
    n_cells = sum(cell.value is not None for row in board.rows for cell in row.cells)
    words = heading(board), tuple(sentences(board)), gaps(board)
    return BoardView(board, *words, rows, _axes(costs, device), n_cells <= MOST_SEEDED)


def _comparable(row: Row, quantity: str, device: str) -> float | None:
    """A cost, if it may stand on an axis with the others: seconds of one device only."""
    return None if quantity == "C" and row.compute.device != device else cost_of(row, quantity)


def _axes(costs: Sequence[tuple[float | None, ...]], device: str) -> tuple[tuple[str, str, str], ...]:
    """The axes on which at least two rows have a place, not all of them at zero."""
    titles = {
        name: f"{title} on {device}" if name == "C" and device else title
        for name, title in QUANTITIES.items()
    }
    return tuple(
        (name, QUANTITY_NAMES[name], titles[name])
        for i, name in enumerate(QUANTITIES)
        if sum(each[i] is not None for each in costs) > 1 and any(each[i] for each in costs)
    )


def default_board(views: Sequence[BoardView]) -> int:
    """The board that the page opens with: most complete rows, most tasks, the protocol with most budgets, its largest."""
    methods = list(dict.fromkeys(view.board.name.method for view in views))

    budgets = Counter(view.board.name.method for view in views)

    def size(i: int) -> tuple[int, int, int, int, int]:
        board = views[i].board
        complete = sum(row.rank is not None for row in board.rows)
        method = board.name.method
        rank = budget_rank(board.budget)
        return complete, len(board.columns), budgets[method], -methods.index(method), rank

    return max(range(len(views)), key=size)


@dataclass(frozen=True)
class Choice:
    """A protocol or a budget to choose, in words, with its internal name."""

    name: str
    internal: str


@dataclass(frozen=True)
class Choices:
    """What a reader chooses a board by: its protocol with all else that is measured differently, and its budget."""

    methods: tuple[Choice, ...]
    budgets: tuple[Choice, ...]


def choices(found: Sequence[Board]) -> Choices:
    """All protocols in the order of the boards, and all budgets from small to large."""
    methods = dict.fromkeys(Choice(board.name.method, board.name.internal[0]) for board in found)
    budgets = dict.fromkeys(
        Choice(board.name.budget, board.budget)
        for board in sorted(found, key=lambda board: budget_rank(board.budget))
    )
    return Choices(tuple(methods), tuple(budgets))
