"""`vitbench cost`: a backbone's three compute quantities, side by side and never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vitbench.cli.backbone import options_of
from vitbench.core.format import quantity

if TYPE_CHECKING:
    from vitbench.backbones.cost import BackboneCost


@click.command(no_args_is_help=True)
@click.argument("backbone")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the backbone.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Python to import first.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--no-measure", is_flag=True, help="Look up and count only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cost(backbone: str, settings: tuple[str, ...], plugins: tuple[str, ...], device: str, dtype: str, no_measure: bool,
         as_json: bool) -> None:  # fmt: skip
    """Say what BACKBONE costs: (A) pre-training as published, (B) FLOPs as counted, (C) speed as measured here."""
    import json

    from vitbench.backbones.cost import MEASURED_S, backbone_cost
    from vitbench.core.plugins import load_all

    load_all(plugins)
    found = backbone_cost(backbone, options_of(settings), device, dtype, 0 if no_measure else MEASURED_S)
    click.echo(json.dumps(found.as_json(), indent=1) if as_json else _text(found))


def _text(found: BackboneCost) -> str:
    lines = [f"{found.name}: {quantity(found.params, 'parameters')}", "A  published pre-training cost"]
    for each in found.published:
        figures = [f"{each.tpu_v3_core_days:,g} TPUv3-core-days"] if each.tpu_v3_core_days else []
        figures += [f"{each.exaflops:,g} exaFLOP"] if each.exaflops else []
        lines.append(f"     {', '.join(figures)} ({each.source})")
    if not found.published:
        lines.append("     none known")
    lines.append("B  counted FLOPs of one image, a multiply-add as 2; training is 3 forward passes")
    lines += [
        f"     {count.size_px} px: {count.gmacs:.4g} GMAC, {quantity(count.forward_flops, 'FLOPs')} forward, "
        f"{quantity(count.training_flops, 'FLOPs')} in training; VTAB-1k once: {count.vtab_core_days} TPUv3-core-days"
        for count in found.counted
    ]
    lines.append("C  measured here")
    if found.measured is None:
        lines.append("     nothing")
    else:
        run = found.measured
        lines.append(
            f"     {run.images_per_s:.3g} images/s forward at {run.size_px} px, {run.dtype}, on {run.device}"
        )
    return "\n".join(lines)
