"""`vitbench pack` and `vitbench unpack`: results from hand to hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from vitbench.core.format import printable


@click.command(no_args_is_help=True)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("submission.zip"),
    show_default=True,
)
def pack(run: Path, output: Path) -> None:
    """Put the records, predictions and environment of RUN into one file to hand in."""
    from vitbench.store.submission import pack as pack_run

    count = pack_run(run, output)
    click.echo(f"{output}: {count} records. Whoever gets it: vitbench unpack --check {output}", err=True)


@click.command(no_args_is_help=True)
@click.argument("submission", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--check", "check_only", is_flag=True, help="Say what it holds and what speaks against it; write nothing."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run directory to fill.")
def unpack(submission: Path, check_only: bool, out: Path | None) -> int:
    """Check SUBMISSION, and with --out make a run directory of what is whole in it. Nothing in it is executed."""
    from vitbench.core.errors import UsageError
    from vitbench.store.submission import check
    from vitbench.store.submission import unpack as unpack_into

    if not check_only and out is None:
        raise UsageError("say where to: --out DIR, or --check to look only")
    found = check(submission)
    for text in found.problems:
        click.echo(printable(f"wrong: {text}"))
    lacking = Counter((item, reason) for _, item, reason in found.lacking)
    for (item, reason), times in lacking.most_common():
        click.echo(printable(f"not conformant: {item}: {reason} ({times} records)"))
    good = sum(record.conformant for record in found.records)
    click.echo(f"{len(found.records)} records, {good} conformant, {len(found.problems)} things wrong")
    if out is not None:
        unpack_into(found, out)
    return 1 if found.problems else 0
