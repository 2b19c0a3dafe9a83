"""`vitbench check`: what would go wrong with a backbone, before a run finds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vitbench.cli.options import BACKBONE_SETTINGS, DEVICE, JSON, PLUGINS, dtype, load_plugins, named_backbone

if TYPE_CHECKING:
    from vitbench.backbones.precision_check import Precision

_MARKS = {
    True: click.style("ok  ", fg="green"),
    False: click.style("FAIL", fg="red", bold=True),
    None: click.style("?   ", fg="yellow"),
}


@click.command(no_args_is_help=True)
@click.argument("backbone")
@BACKBONE_SETTINGS
@PLUGINS
@DEVICE
@dtype()
@JSON
def check(
    backbone: str,
    settings: tuple[str, ...],
    plugins: tuple[str, ...],
    device: str,
    dtype: Precision | None,
    as_json: bool,
) -> int:
    """Check a backbone (takes a few seconds).

    Checks what was loaded, shapes, determinism, batch independence, modes, gradients, other image sizes and normalisation; a
    question mark says that something is not known. On a GPU, or with --dtype bfloat16, it says how far features are
    from those in float32 on the CPU. Exits with 1 if a check fails.
    """
    import json
    from dataclasses import asdict

    from vitbench.backbones.check import check_backbone

    load_plugins(plugins)
    findings = check_backbone(*named_backbone(backbone, settings), device=device, dtype=dtype)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.ok]} {finding.item}: {finding.text}")
    return 1 if any(finding.ok is False for finding in findings) else 0
