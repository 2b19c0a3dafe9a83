"""`vitbench compare`: differences between backbones with confidence intervals and corrected p-values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.cli.options import JSON, RUNS
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.report.compare import Difference
    from vitbench.report.statistics import Interval


@click.command(no_args_is_help=True)
@RUNS
@click.option("--backbones", nargs=2, metavar="A B", help="Labels of two backbones: B minus A, cell by cell.")
@JSON
def compare(runs: tuple[Path, ...], backbones: tuple[str, str] | None, as_json: bool) -> None:
    """Compare two backbones, or rank all. Differences are paired: both backbones on the same test images.

    Intervals are 95 % bootstrap intervals over images (for ranks: over tasks and images). p-values are from the exact McNemar
    test, Holm-corrected for the number of cells. Seeds are averaged; McNemar's test uses the first seed that both have.
    """
    import json
    from dataclasses import asdict

    from vitbench.report.compare import compare as compare_two
    from vitbench.report.compare import ranks

    if backbones:
        rows = compare_two(runs, *backbones)
        click.echo(
            json.dumps([asdict(row) for row in rows], indent=1) if as_json else _table(rows, *backbones)
        )
        return
    found = ranks(runs)
    if as_json:
        plain = {title: {name: asdict(each) for name, each in rows.items()} for title, rows in found.items()}
        click.echo(json.dumps(plain, indent=1))
        return
    if not found:
        click.echo("nothing to rank: no setting has two backbones that completed all of its tasks", err=True)
        return
    click.echo("\n\n".join(_ranked(title, rows) for title, rows in found.items()))


def _table(rows: list[Difference], first: str, second: str) -> str:
    lines = [f"{second} minus {first}, percentage points"]
    width = max(len(f"{row.task} · {row.protocol} · {row.budget}") for row in rows)
    for row in rows:
        cell = f"{row.task} · {row.protocol} · {row.budget}"
        gap = row.gap
        lines.append(
            f"{cell:{width}}  {100 * row.first:5.1f} → {100 * row.second:5.1f}  {100 * gap.value:+6.1f} "
            f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]  p {row.p_holm:.2g} (Holm)  n {row.n_test}, seeds {row.seeds}"
        )
    return printable("\n".join(lines))


def _ranked(title: str, rows: dict[str, Interval]) -> str:
    width = max(map(len, rows))
    ordered = sorted(rows.items(), key=lambda pair: pair[1].value)
    lines = [f"{name:{width}}  rank {each.value:g} [{each.low:g}, {each.high:g}]" for name, each in ordered]
    return printable("\n".join([title, *lines]))
