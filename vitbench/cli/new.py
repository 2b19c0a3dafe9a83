"""`vitbench new`: a working plugin to start from."""

from __future__ import annotations

from pathlib import Path

import click

from vitbench.cli.options import output_folder


@click.group()
def new() -> None:
    """Write the skeleton of a plugin."""


@new.command(no_args_is_help=True)
@click.argument("name")
@output_folder("--out", "Folder to write to.", default=Path(), show_default="here")
def backbone(name: str, output: Path) -> None:
    """Write NAME.py, a working backbone plugin, and test_NAME.py, its test."""
    from vitbench.cli.plugin_template import write_backbone

    module = write_backbone(name, output)
    test = module.with_name(f"test_{module.name}")
    click.echo(f"{module}\n{test}")
    click.echo(
        f"check it:  vitbench check {name} --plugin {module}\n"
        f"test it:   pytest {test}\n"
        f"run it:    vitbench run quickstart --backbone {name} --plugin {module} --out runs/{name}",
        err=True,
    )
