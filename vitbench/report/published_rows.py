"""Published rows as rows of a board, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitbench.published import PublishedRow
from vitbench.report.compute import published_compute
from vitbench.report.leaderboard import Cell, Column, Row
from vitbench.report.published_match import is_about, is_top1


def quoted_row(row: PublishedRow, columns: Sequence[Column]) -> Row:
    """A published row under a board's columns; what it does not print stays empty."""
    return Row(
        f"{row.model} ({', '.join(_told_apart(row))})",
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


def _told_apart(row: PublishedRow) -> list[str]:
    """What tells rows on one model apart: its data, how long it was trained, how it was adapted."""
    epochs = f"{row.pretrain_epochs:g} epochs" if row.pretrain_epochs else ""
    return [part for part in (row.pretrain_data, epochs, row.method) if part]


def distinct_models(rows: Sequence[Row]) -> list[Row]:
    """Rows under the model's name alone, where that says which it is."""
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
