"""The check of a backbone's tokens, if it offers any: their shape and values, whichever batch an image is in."""

from __future__ import annotations

import torch

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.quick_check import BATCH, BATCH_TOLERANCE, Finding, raised
from vitbench.core.errors import UsageError
from vitbench.core.seeding import torch_generator
from vitbench.core.tokens import NoTokensError

ITEM = "tokens"


def token_finding(backbone: BuiltBackbone) -> Finding | None:
    """What a backbone offers attentive probes; None if it says that it offers no tokens."""
    size_px = backbone.input.size_px
    noise = torch.rand(BATCH, 3, size_px, size_px, generator=torch_generator(0, "check of tokens")) * 2 - 1
    images = noise.to(next(backbone.parameters(), noise).device)
    try:
        with torch.no_grad():
            together, alone = backbone.tokens(images), backbone.tokens(images[:1])
    except NoTokensError:
        return None
    except UsageError as error:
        return Finding(ITEM, False, error.problems[0].what)
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        return Finding(ITEM, False, f"tokens() {raised(error)}")
    if not together.isfinite().all():
        return Finding(ITEM, False, "not all are finite")
    apart = float((together[:1] - alone).abs().max() / together.abs().max().clamp_min(1e-12))
    if apart > BATCH_TOLERANCE[images.device.type]:
        return Finding(
            ITEM, False, f"an image's change by {apart:.0e} of the largest with the batch that it is in"
        )
    return Finding(ITEM, True, f"{together.shape[1]} of width {together.shape[2]}, for attentive_probe")
