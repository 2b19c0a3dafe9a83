"""`vitbench pack`: a run as one file to submit."""

from __future__ import annotations

from pathlib import Path

import click

from vitbench.cli.options import RUN, output_file


@click.command(no_args_is_help=True)
@RUN
@output_file("The submission.", default="submission.zip")
def pack(run: Path, output: Path) -> None:
    """Bundle a run for submission: records, predictions and environment."""
    from vitbench.store.submission import pack as pack_run

    count = pack_run(run, output)
    click.echo(f"{output}: {count} records. To verify: vitbench unpack --check {output}", err=True)
