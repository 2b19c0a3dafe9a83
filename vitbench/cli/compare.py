"""`vitbench compare`: differences between two backbones, or ranks of all, with intervals and corrected p-values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.options import JSON, RUNS
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.report.compare import Comparison, Difference, MeanDifference
    from vitbench.report.rank_table import Ranked

ONLY_THESE = "these trained networks only"
ONE_SEED = f"{ONLY_THESE}: one seed each does not tell what another seed would give (add seeds to compare the backbones)"

NO_INTERVAL = "no interval known"
AT_LEAST = "interval ≥ 95 %, images not paired"


@click.command(no_args_is_help=True)
@RUNS
@click.option(
    "--backbones",
    nargs=2,
    metavar="A B",
    help="Two backbones, by label or as `run` names them: B minus A, cell by cell.",
)
@JSON
def compare(runs: tuple[Path, ...], backbones: tuple[str, str] | None, as_json: bool) -> None:
    """Compare two backbones, or rank all, on the same test images and by the board's metric.

    Intervals are 95 % intervals over test images and seeds, which are crossed, and p-values come from the same method.
    They are Holm-corrected for the complete cells of the table. With one seed they hold for the trained networks only, not
    for the backbones. Means are over the tasks as fixed. Docs: Reading the statistics.
    """
    import json
    from dataclasses import asdict

    from vitbench.report.compare import compare as compare_two
    from vitbench.report.rank_table import ranks
    from vitbench.suite.command_line import label_of

    if backbones:
        first, second = map(label_of, backbones)
        found = compare_two(runs, first, second)
        click.echo(json.dumps(asdict(found), indent=1) if as_json else _table(found, first, second))
        return
    by_setting = ranks(runs)
    if as_json:
        plain: dict[str, Any] = {
            title: {name: asdict(each) for name, each in rows.items()} for title, rows in by_setting.items()
        }
        click.echo(json.dumps(plain, indent=1))
        return
    if not by_setting:
        click.echo("nothing to rank: no setting has two backbones that completed all of its tasks", err=True)
        return
    click.echo("\n\n".join(_ranked(title, rows) for title, rows in by_setting.items()))


def _table(found: Comparison, first: str, second: str) -> str:
    cells = [(f"{row.task} · {row.protocol} · {row.budget}", row) for row in found.cells]
    means = [(f"mean over {row.tasks} tasks · {row.protocol} · {row.budget}", row) for row in found.means]
    width = max(len(title) for title, _ in [*cells, *means])
    lines = [f"{second} minus {first}, percentage points, 95 % intervals over test images and seeds"]
    lines += [f"{title:{width}}  {_numbers(row)}  {_about(row)}" for title, row in cells]
    lines += [f"{title:{width}}  {_numbers(row)}  {_p_of_mean(row)}{_star(row)}" for title, row in means]
    lines += ["", found.family + (" (those of means are not in it)" if means else "") + "."]
    scopes = [row.scope for row in found.cells] + [row.scope for row in found.means]
    if "trained networks" in scopes:
        lines.append(f"* {ONE_SEED}.")
    return printable("\n".join(lines))


def _numbers(row: Difference | MeanDifference) -> str:
    gap = row.gap
    interval = "" if gap.low is None else f" [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    return f"{100 * row.first:5.1f} → {100 * row.second:5.1f}  {100 * gap.value:+6.1f}{interval}"


def _p_of_mean(row: MeanDifference) -> str:
    return NO_INTERVAL if row.p is None else f"p {row.p:.2g}"


def _star(row: Difference | MeanDifference) -> str:
    return "*" if row.scope == "trained networks" else ""


def _about(row: Difference) -> str:
    p = NO_INTERVAL if row.p is None else f"p {row.p:.2g} (incomplete: in no family)"
    p = p if row.p_holm is None else f"p {row.p_holm:.2g} (Holm)"
    one, two = row.seeds
    seeds = f"{one}" if one == two else f"{one} and {two}"
    missing = "" if row.complete else f" of {row.seeds_expected}"
    pairing = ", paired" if row.paired and one > 1 else ""
    metric = "" if row.metric == "top1" else f"{row.metric}, "
    if row.p is not None and not row.known_images:
        metric += f"{AT_LEAST}, "
    together = f" in {row.clusters} clusters" if row.clusters else ""
    return f"{p}{_star(row)}  {metric}n {row.n_test}{together}, seeds {seeds}{missing}{pairing}"


def _ranked(title: str, rows: dict[str, Ranked]) -> str:
    """The ranks of one setting: each with its own set and, in brackets, the sets that hold for all rows at once."""
    width = max(map(len, rows))
    ordered = sorted(rows.items(), key=lambda pair: pair[1].rank.value)
    lines = [
        f"{name:{width}}  {_place(each)}{'*' if each.scope == 'trained networks' else ''}"
        for name, each in ordered
    ]
    if any(each.mean.low is None for each in rows.values()):
        notes = [f"mean and rank by it; {NO_INTERVAL} of a task's metric, hence none of means and ranks"]
    else:
        notes = [
            "mean, its 95 % interval, rank and 95 % sets of ranks over test images and seeds; tasks are fixed"
        ]
    if any(each.scope == "trained networks" for each in rows.values()):
        notes.append(f"* {ONE_SEED}")
    return printable("\n".join([title, *lines, *notes]))


def _place(each: Ranked) -> str:
    mean, rank = each.mean, each.rank
    if mean.low is None:
        return f"{100 * mean.value:5.1f}  rank {rank.value:g}"
    return (
        f"{100 * mean.value:5.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]  "
        f"rank {rank.value:g} [{rank.low}, {rank.high}]  "
        f"all at once [{rank.low_at_once}, {rank.high_at_once}]"
        f"{'  may be first' if rank.first else ''}"
    )
