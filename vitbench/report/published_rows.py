"""Published rows as rows of a leaderboard, shown beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitbench.published import PublishedRow
from vitbench.report.board_parts import Cell, Column
from vitbench.report.compute import published_compute
from vitbench.report.leaderboard import Row
from vitbench.report.published_match import is_about, statistic_text
from vitbench.report.published_steps import is_top1


def published_row(row: PublishedRow, columns: Sequence[Column]) -> Row:
    """A published row under a board's columns; cells without a printed value stay empty."""
    return Row(
        f"{row.model} ({', '.join(_distinguishing(row))})",
        row.family,
        "pretrained",
        row.pretrain_data,
        None if row.params_m is None else round(row.params_m * 1e6),
        published_compute(row),
        tuple(_cell(row, column) for column in columns),
        tuple(column.counted for column in columns),
        source=row.source.citation,
        weak=row.is_weak,
    )


def _distinguishing(row: PublishedRow) -> list[str]:
    """The pre-training data, pre-training epochs and method, by which rows of one model differ."""
    epochs = f"{row.pretrain_epochs:g} epochs" if row.pretrain_epochs else ""
    return [part for part in (row.pretrain_data, epochs, row.method) if part]


def shorten_names(rows: Sequence[Row]) -> list[Row]:
    """The same rows, named by the model alone where no other row is about that model."""
    names = [row.backbone.partition(" (")[0] for row in rows]
    return [
        replace(row, backbone=name) if names.count(name) == 1 else row
        for row, name in zip(rows, names, strict=True)
    ]


def _cell(row: PublishedRow, column: Column) -> Cell:
    fits = column.dataset and is_about(row, column.task) and is_top1(row, column.dataset)
    value = row.results.get(column.dataset) if fits else None
    if value is None:
        return Cell(None)
    size_px = row.resolution_of(column.dataset)
    runs = row.runs or 1
    provenance = [
        row.source.citation,
        f"{size_px} px" if isinstance(size_px, int) else f"image size {size_px or 'not stated'}",
        statistic_text(row),
        "from a single secondary source" if row.is_weak else "",
        row.note,
    ]
    return Cell(
        value.value / 100,
        spread=None if value.std is None else value.std / 100,
        seeds=runs,
        seeds_expected=runs,
        decimals=min(max(value.decimals, 1), 2),
        provenance=" — ".join(part for part in provenance if part),
    )
