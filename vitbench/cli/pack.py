"""`vitbench pack`: a run as one file to submit."""

from __future__ import annotations

from pathlib import Path

import click

from vitbench.cli.options import RUN, output_file


@click.command(no_args_is_help=True)
@RUN
@output_file("The submission.", default="submission.zip")
@click.option(
    "--without-scores", is_flag=True, help="Leave out class scores that were kept (`run --keep-scores`)."
)
def pack(run: Path, output: Path, *, without_scores: bool) -> None:
    """Bundle a run for submission: records, predictions, class scores if they were kept, and environment."""
    from vitbench.store.submission import pack as pack_run

    count = pack_run(run, output, with_scores=not without_scores)
    click.echo(f"{output}: {count} records. To verify: vitbench unpack --check {output}", err=True)
