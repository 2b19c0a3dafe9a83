"""`vitbench merge`: several machines' results in one run directory."""

from __future__ import annotations

from pathlib import Path

import click

from vitbench.cli.options import output_folder


@click.command(no_args_is_help=True)
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@output_folder("-o", "Run directory to fill.", required=True)
def merge(runs: tuple[Path, ...], output: Path) -> None:
    """Combine run directories from several machines.

    Two different results of one job are an error; nothing is written then.
    """
    from vitbench.store.merge import merge as merge_runs
    from vitbench.store.merge import without_predictions

    count = merge_runs(runs, output)
    if lacking := without_predictions(output):
        click.echo(f"warning: {lacking} of them have no predictions and cannot be compared", err=True)
    click.echo(f"{count} records in {output}; next: vitbench report {output}", err=True)
