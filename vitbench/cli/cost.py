"""`vitbench cost`: a backbone's three compute quantities, side by side and never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.options import (
    BACKBONE_SETTINGS,
    DEVICE,
    JSON,
    PLUGINS,
    dtype,
    load_plugins,
    named_backbone,
)
from vitbench.core.format import quantity

if TYPE_CHECKING:
    from vitbench.backbones.cost import BackboneCost


@click.command(no_args_is_help=True)
@click.argument("backbone")
@BACKBONE_SETTINGS
@PLUGINS
@DEVICE
@dtype("float32")
@click.option("--no-measure", is_flag=True, help="Look up and count only; measure nothing.")
@JSON
def cost(
    backbone: str, settings: tuple[str, ...], plugins: tuple[str, ...], as_json: bool, **measuring: Any
) -> None:
    """Show the compute cost of a backbone.

    (A) published pre-training cost, (B) counted FLOPs, (C) speed measured on this machine.
    """
    import json

    load_plugins(plugins)
    found = _found(*named_backbone(backbone, settings), **measuring)
    click.echo(json.dumps(found.as_json(), indent=1) if as_json else _text(found))


def _found(
    backbone: str, options: dict[str, object], *, device: str, dtype: str, no_measure: bool
) -> BackboneCost:
    from vitbench.backbones.cost import MEASURED_S, backbone_cost

    return backbone_cost(backbone, options, device, dtype, 0 if no_measure else MEASURED_S)


def _text(found: BackboneCost) -> str:
    lines = [f"{found.name}: {quantity(found.params, 'parameters')}", "A  published pre-training cost"]
    for each in found.published:
        figures = [f"{each.tpu_v3_core_days:,g} TPUv3-core-days"] if each.tpu_v3_core_days else []
        figures += [f"{each.exaflops:,g} exaFLOPs"] if each.exaflops else []
        lines.append(f"     {', '.join(figures)} ({each.source})")
    if not found.published:
        lines.append("     unknown")
    lines.append(
        "B  counted FLOPs per image (one multiply-add = 2 FLOPs; a training step = 3 forward passes)"
    )
    lines += [
        f"     {count.size_px} px: {count.gmacs:.4g} GMAC, {quantity(count.forward_flops, 'FLOPs')} forward, "
        f"{quantity(count.training_flops, 'FLOPs')} in training; VTAB-1k once: {count.vtab_core_days} TPUv3-core-days"
        for count in found.counted
    ]
    lines.append("C  measured here")
    if found.measured is None:
        lines.append("     not measured")
    else:
        run = found.measured
        lines.append(
            f"     {run.images_per_s:.3g} images/s forward at {run.size_px} px, {run.dtype}, on {run.device}"
        )
    return "\n".join(lines)
