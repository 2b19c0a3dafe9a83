"""`vitbench pack` and `vitbench unpack`: a run as one file to submit, and the check of such a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from vitbench.cli.options import RUN, output_file, output_folder
from vitbench.core.format import printable


@click.command(no_args_is_help=True)
@RUN
@output_file("The submission.", default="submission.zip")
def pack(run: Path, output: Path) -> None:
    """Bundle a run for submission: records, predictions and environment."""
    from vitbench.store.submission import pack as pack_run

    count = pack_run(run, output)
    click.echo(f"{output}: {count} records. To verify: vitbench unpack --check {output}", err=True)


@click.command(no_args_is_help=True)
@click.argument("submission", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", "check_only", is_flag=True, help="Only verify; write nothing.")
@output_folder("--out", "Run directory to fill.")
def unpack(submission: Path, check_only: bool, output: Path | None) -> int:
    """Verify a submission, and unpack it with --out: into a new run directory, or merged into one as `vitbench merge` does.

    Only valid records are written; the suite and the environment of a run that is there stay. Nothing in a submission is
    executed.

    Exits with 1 if there are problems.
    """
    from vitbench.core.errors import UsageError
    from vitbench.store.submission import check
    from vitbench.store.submission import unpack as unpack_into
    from vitbench.store.submission_checks import NOT_CHECKED, summary

    if not check_only and output is None:
        raise UsageError("choose --out DIR to unpack, or --check to only verify")
    found = check(submission)
    for text in found.problems:
        click.echo(printable(f"problem: {text}"))
    lacking = Counter((item, reason) for _, item, reason in found.lacking)
    for (item, reason), times in lacking.most_common():
        click.echo(printable(f"not conformant: {item}: {reason} ({times} records)"))
    good = sum(record.conformant for record in found.records)
    click.echo(f"{len(found.records)} records, {good} conformant, {_count(found.problems)}")
    click.echo(summary(found.records), err=True)
    click.echo(NOT_CHECKED, err=True)
    if output is not None:
        click.echo(f"{output}: {unpack_into(found, output)} records", err=True)
    return 1 if found.problems else 0


def _count(problems: Sequence[str]) -> str:
    if not problems:
        return "no problems found"
    return f"{len(problems)} problem{'s' * (len(problems) > 1)}"
