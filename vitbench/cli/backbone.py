"""`vitbench check` and `vitbench new`: for whoever writes a backbone."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(no_args_is_help=True)
@click.argument("backbone")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the backbone.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Python to import first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(backbone: str, settings: tuple[str, ...], plugins: tuple[str, ...], as_json: bool) -> int:
    """Tell in seconds what will go wrong with BACKBONE: shapes, determinism, batch independence, modes, gradients, weights."""
    import json
    from dataclasses import asdict

    from vitbench.backbones.check import check_backbone
    from vitbench.core.plugins import load_all

    for plugin in load_all(plugins):
        if plugin.trouble:
            click.echo(f"warning: {plugin.warning}", err=True)
    findings = check_backbone(backbone, options_of(settings))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding.ok else click.style("FAIL", fg="red", bold=True)
            click.echo(f"{mark} {finding.item}: {finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1


@click.group()
def new() -> None:
    """Write the skeleton of a plugin."""


@new.command("backbone", no_args_is_help=True)
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="here",
    help="Folder.",
)
def new_backbone(name: str, out: Path) -> None:
    """Write NAME.py, a working backbone plugin, and test_NAME.py, its test."""
    from vitbench.cli.plugin_template import write_backbone

    module = write_backbone(name, out)
    click.echo(f"{module}\n{module.with_name(f'test_{module.name}')}")
    click.echo(
        f"try it:   vitbench check {name} --plugin {module}\n"
        f"test it:  pytest {module.with_name(f'test_{module.name}')}\n"
        f"run it:   vitbench run quickstart --backbone {name} --plugin {module} --out runs/{name}",
        err=True,
    )


@click.command("inspect", no_args_is_help=True)
@click.argument("backbone")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the backbone.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Python to import first.")
@click.option(
    "-o", "output", type=click.Path(path_type=Path, dir_okay=False), default="inspect.html", show_default=True
)
def inspect_(
    backbone: str, images: tuple[Path, ...], settings: tuple[str, ...], plugins: tuple[str, ...], output: Path
) -> None:
    """Make a page of what a ViT sees: attention rollout on IMAGES (two samples if none), how far heads look, its embeddings."""
    from vitbench.backbones.inspect import inspect_backbone
    from vitbench.core.files import write_atomically
    from vitbench.core.plugins import load_all
    from vitbench.report.inspect_page import inspect_page

    for plugin in load_all(plugins):
        if plugin.trouble:
            click.echo(f"warning: {plugin.warning}", err=True)
    write_atomically(output, inspect_page(inspect_backbone(backbone, options_of(settings), images)))
    click.echo(str(output))


def options_of(settings: tuple[str, ...]) -> dict[str, object]:
    """`--set option=value` as a backbone's options."""
    from vitbench.core.errors import UsageError
    from vitbench.suite.yaml_lines import parse_value

    options: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write option=value")
        options[name] = parse_value(text)
    return options
