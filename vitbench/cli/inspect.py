"""`vitbench inspect`: a page that shows what a ViT attends to."""

from __future__ import annotations

from pathlib import Path

import click

from vitbench.cli.options import BACKBONE_SETTINGS, PLUGINS, load_plugins, named_backbone, output_file


@click.command("inspect", no_args_is_help=True)
@click.argument("backbone")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@BACKBONE_SETTINGS
@PLUGINS
@output_file("The page.", default="inspect.html")
def inspect_(
    backbone: str, images: tuple[Path, ...], settings: tuple[str, ...], plugins: tuple[str, ...], output: Path
) -> None:
    """Visualise a ViT: attention rollout, attention distance, embeddings.

    Attention is shown on IMAGES, or on two sample images if none are given.
    """
    from vitbench.backbones.inspect import inspect_backbone
    from vitbench.core.files import write_atomically
    from vitbench.report.inspect_page import inspect_page

    load_plugins(plugins)
    write_atomically(output, inspect_page(inspect_backbone(*named_backbone(backbone, settings), images)))
    click.echo(str(output))
