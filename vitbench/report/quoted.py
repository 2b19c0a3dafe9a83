"""Published rows as rows of a board, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.published import PublishedRow
from vitbench.report.board import Cell, Column, Row
from vitbench.report.costs import published_compute
from vitbench.report.reference import is_about


def quoted_row(row: PublishedRow, columns: Sequence[Column]) -> Row:
    """A published row under a board's columns; what it does not print stays empty."""
    return Row(
        row.model,
        family_of(row.model),
        "pretrained",
        row.pretrain_data,
        None if row.params_m is None else round(row.params_m * 1e6),
        published_compute(row),
        tuple(_cell(row, column) for column in columns),
        tuple(column.counted for column in columns),
        source=row.source.citation,
        weak=row.is_weak,
    )


def _cell(row: PublishedRow, column: Column) -> Cell:
    value = row.results.get(column.dataset) if column.dataset and is_about(row, column.task) else None
    if value is None:
        return Cell(None)
    side = row.resolution_of(column.dataset)
    runs = row.runs or 1
    known = [
        row.source.citation,
        f"{side} px" if isinstance(side, int) else f"side {side or 'not stated'}",
        f"{runs} runs" if runs > 1 else "",
        "one third party's quotation" if row.is_weak else "",
        row.note,
    ]
    return Cell(
        value.value / 100,
        spread=None if value.std is None else value.std / 100,
        seeds=runs,
        seeds_expected=runs,
        said=" — ".join(part for part in known if part),
    )


def family_of(model: str) -> str:
    """The kind of network that a paper's name for it says."""
    kinds = {
        "ViT": "ViT",
        "BiT": "BiT",
        "Mixer": "Mixer",
        "EfficientNet": "EfficientNet",
        "Res": "CNN",
        "R": "CNN",
    }
    if "+" in model:
        return "Hybrid"
    return next((kind for start, kind in kinds.items() if start in model), "other")
