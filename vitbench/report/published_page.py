"""The page of published results alone: the tables of each source as printed, without measured results."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from vitbench.published import GROUP_OF, MEANS, VIT_PAPER, VTAB, VTAB_GROUPS, PublishedRow, Value
from vitbench.report.charts.cost import cost_chart
from vitbench.report.charts.style import chart_data, svg
from vitbench.report.page import page_environment, page_styles

CHART_PX = (420, 320)  # beside a table
_FIRST = ("imagenet", "imagenet_real", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")


@dataclass(frozen=True)
class PublishedCell:
    """A printed value with its image size, whether it is the best of its column, and the decimals of the column."""

    value: Value
    resolution: int | str | None
    best: bool
    decimals: int

    @property
    def text(self) -> str:
        """The value with the decimals of its column."""
        spread = f" ± {self.value.std:.2f}" if self.value.std is not None else ""
        return f"{self.value.value:.{self.decimals}f}{spread}"


@dataclass(frozen=True)
class PublishedTable:
    """The rows of one source and protocol, in percent as printed, with the stated means; `group_of` is empty outside VTAB.

    Not a Board: that has fractions, computes its means, and lacks columns for values that are not top-1.
    """

    title: str
    protocol: str
    columns: tuple[str, ...]
    group_of: dict[str, str]
    rows: tuple[tuple[PublishedRow, tuple[PublishedCell | None, ...]], ...]

    @property
    def has_core_days(self) -> bool:
        """Whether a row states its pre-training in core-days."""
        return any(row.compute.tpu_v3_core_days for row, _ in self.rows)

    @property
    def has_exaflops(self) -> bool:
        """Whether a row states its pre-training in exaFLOPs."""
        return any(row.compute.exaflops for row, _ in self.rows)


def published_tables(rows: Sequence[PublishedRow]) -> list[PublishedTable]:
    """One table for each source and protocol, in the order of the rows."""
    grouped: dict[tuple[str, str], list[PublishedRow]] = defaultdict(list)
    for row in rows:
        grouped[row.source.citation, row.protocol].append(row)
    return [_table(title, protocol, members) for (title, protocol), members in grouped.items()]


def _table(title: str, protocol: str, members: Sequence[PublishedRow]) -> PublishedTable:
    columns, is_vtab = _columns(members)
    printed = {name: [row.results[name] for row in members if name in row.results] for name in columns}
    best = {name: max(value.value for value in values) for name, values in printed.items()}
    decimals = {name: max(value.decimals for value in values) for name, values in printed.items()}

    def cells(row: PublishedRow) -> tuple[PublishedCell | None, ...]:
        return tuple(
            PublishedCell(value, row.resolution_of(name), value.value == best[name], decimals[name])
            if (value := row.results.get(name))
            else None
            for name in columns
        )

    groups = {name: group.capitalize() for name, group in GROUP_OF.items()} if is_vtab else {}
    return PublishedTable(title, protocol, columns, groups, tuple((row, cells(row)) for row in members))


def _columns(members: Sequence[PublishedRow]) -> tuple[tuple[str, ...], bool]:
    """Data sets in the order of the papers, others by name, then stated means; and whether they are those of VTAB."""
    found = {name for row in members for name in row.results}
    is_vtab = bool(found & {*VTAB_GROUPS["structured"]})
    means = [name for name in MEANS if name in found]
    known = [name for name in (VTAB if is_vtab else _FIRST) if name in found]
    return (*known, *sorted(found - {*known, *means}), *means), is_vtab


def cost_points(rows: Sequence[PublishedRow]) -> pd.DataFrame:
    """Rows with printed exaFLOPs and all five data sets of the ViT paper's Fig. 5; models with several by their epochs."""
    shown = [
        row
        for row in rows
        if row.compute.exaflops and all(name in row.results for name in VIT_PAPER) and row.pretrain_epochs
    ]
    times = Counter(row.model for row in shown)
    return chart_data([
        {
            "model": row.model if times[row.model] == 1 else f"{row.model}, {row.pretrain_epochs:g} epochs",
            "family": row.family, "cost": row.compute.exaflops,
            "score": statistics.fmean(row.results[name].value for name in VIT_PAPER),
            "kind": "published", "low": 0.0, "high": 0.0,
        }
        for row in shown
    ])  # fmt: skip


def render_published(rows: Sequence[PublishedRow], title: str) -> str:
    """The page of these rows."""
    chart = cost_chart(cost_points(rows), "pre-training, exaFLOPs (published)", size_px=CHART_PX)
    return (
        page_environment()
        .get_template("published.html.j2")
        .render(
            title=title,
            tables=published_tables(rows),
            chart=Markup(svg(chart)) if chart else None,
            weak=any(row.is_weak for row in rows),
            **page_styles("print.css"),
        )
    )
