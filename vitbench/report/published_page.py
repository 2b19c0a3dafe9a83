"""Published rows as tables of their own: a page that is made without a single measured number, and says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitbench.published import GROUP_OF, MEANS, NATURAL, SPECIALIZED, STRUCTURED, PublishedRow, Value
from vitbench.report.charts.cost import CostPoint, cost_chart
from vitbench.report.charts.style import svg
from vitbench.report.page import page_environment, page_styles

_FIRST = ("imagenet", "imagenet_real", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")


@dataclass(frozen=True)
class PaperCell:
    """A printed value, at which side it was evaluated, and whether it is the best of its column."""

    value: Value
    resolution: int | str | None
    best: bool
    decimals: int

    @property
    def text(self) -> str:
        """As a table shows it, with the decimals of its column."""
        spread = f" ± {self.value.std:.2f}" if self.value.std is not None else ""
        return f"{self.value.value:.{self.decimals}f}{spread}"


@dataclass(frozen=True)
class PaperTable:
    """The rows that one source prints under one protocol; `group_of` names VTAB's groups where it is VTAB."""

    title: str
    protocol: str
    columns: tuple[str, ...]
    group_of: dict[str, str]
    rows: tuple[tuple[PublishedRow, tuple[PaperCell | None, ...]], ...]

    @property
    def has_core_days(self) -> bool:
        """Whether a row says what its pre-training took."""
        return any(row.compute.tpu_v3_core_days for row, _ in self.rows)

    @property
    def has_exaflops(self) -> bool:
        """Whether a row says what its pre-training took, in FLOPs."""
        return any(row.compute.exaflops for row, _ in self.rows)


def paper_tables(rows: Sequence[PublishedRow]) -> list[PaperTable]:
    """Tables in the rows' order; what one source prints in two tables stays in two."""
    grouped: dict[tuple[str, str], list[PublishedRow]] = defaultdict(list)
    for row in rows:
        grouped[row.source.citation, row.protocol].append(row)
    return [_table(title, protocol, members) for (title, protocol), members in grouped.items()]


def _table(title: str, protocol: str, members: Sequence[PublishedRow]) -> PaperTable:
    found = {name for row in members for name in row.results}
    vtab = found & {*STRUCTURED}
    order = [*NATURAL, *SPECIALIZED, *STRUCTURED] if vtab else [*_FIRST]
    means = [name for name in MEANS if name in found]
    known = [name for name in order if name in found]
    columns = (*known, *sorted(found - {*known, *means}), *means)
    best = {name: max(row.results[name].value for row in members if name in row.results) for name in columns}

    decimals = {
        name: max(_decimals(row.results[name].value) for row in members if name in row.results)
        for name in columns
    }

    def cells(row: PublishedRow) -> tuple[PaperCell | None, ...]:
        return tuple(
            PaperCell(value, row.resolution_of(name), value.value == best[name], decimals[name])
            if (value := row.results.get(name))
            else None
            for name in columns
        )

    groups = {name: group.capitalize() for name, group in GROUP_OF.items()} if vtab else {}
    return PaperTable(title, protocol, columns, groups, tuple((row, cells(row)) for row in members))


def _decimals(value: float) -> int:
    return len(f"{value:.2f}".rstrip("0").partition(".")[2])


def cost_points(rows: Sequence[PublishedRow]) -> list[CostPoint]:
    """Rows of which a source prints exaFLOPs and all five data sets of the ViT paper's Fig. 5."""
    parts = MEANS["avg5"]
    return [
        CostPoint(
            row.model,
            _kind(row.model),
            row.compute.exaflops,
            sum(row.results[name].value for name in parts) / len(parts),
        )
        for row in rows
        if row.compute.exaflops and all(name in row.results for name in parts) and row.pretrain_epochs
    ]


def _kind(model: str) -> str:
    return "Hybrid" if "+" in model else "ViT" if model.startswith("ViT") else "ResNet (BiT)"


def render_published(rows: Sequence[PublishedRow], title: str) -> str:
    """The page of these rows."""
    return (
        page_environment()
        .get_template("paper.html.j2")
        .render(
            title=title,
            tables=paper_tables(rows),
            chart=Markup(svg(cost_chart(cost_points(rows)))),
            weak=any(row.is_weak for row in rows),
            **page_styles(),
        )
    )
