"""What every backbone must keep, checked on the real object: `vitbench check NAME`, and pytest over a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.backbones.build import build
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.errors import VitbenchError
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import torch_generator

BATCH = 4
# A different batch may take a different kernel: float32 rounding, with room for deep networks.
BATCH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Finding:
    """One item: whether it holds, and what was seen."""

    item: str
    ok: bool
    text: str


Check = Callable[[BuiltBackbone, Tensor, Tensor], Finding]


def check_backbone(spec: str, options: dict[str, Any] | None = None) -> list[Finding]:
    """Build a registered backbone and check it; stops at what makes further checks meaningless.

    Raises:
        UsageError: nothing has that name, or it does not take these options.
    """
    BACKBONES.check(spec, options or {})
    again = partial(build, spec, options or {})
    try:
        backbone = again()
    except VitbenchError as error:
        return [Finding("builds", False, str(error))]
    except (Exception, SystemExit) as error:  # noqa: BLE001  an author's code may raise anything
        return [Finding("builds", False, f"{type(error).__name__}: {error}")]
    return list(_findings(backbone, again))


def _guarded(
    item: str,
    check: Check,
    backbone: BuiltBackbone,
    images: Tensor,
    features: Tensor,
) -> Finding:
    """A check whose failure is a finding too."""
    try:
        return check(backbone, images, features)
    except (Exception, SystemExit) as error:  # noqa: BLE001  an author's code may raise anything
        return Finding(item, False, f"raised {type(error).__name__}: {error}")


def _findings(backbone: BuiltBackbone, again: Callable[[], BuiltBackbone]) -> Iterator[Finding]:
    yield Finding("builds", True, f"{backbone.params:,} parameters, {backbone.feature_dim} features")
    yield _normalisation(backbone)
    yield _weights(backbone)
    backbone.eval()
    spec = backbone.input
    images = torch.rand(BATCH, 3, spec.size_px, spec.size_px, generator=torch_generator(0, "check"))
    try:
        with torch.no_grad():
            features = backbone.features(images * 2 - 1)
    except (Exception, SystemExit) as error:  # noqa: BLE001  an author's code may raise anything
        yield Finding("shape", False, f"features() raised {type(error).__name__}: {error}")
        return
    shape = _shape(backbone, features)
    yield shape
    if shape.ok:
        for item, check in _CHECKS.items():
            yield _guarded(item, check, backbone, images * 2 - 1, features)
        yield _repeatable(backbone, again)


def _normalisation(backbone: BuiltBackbone) -> Finding:
    spec = backbone.input
    ok = spec.size_px > 0 and all(value > 0 for value in spec.std)
    return Finding("input", ok, f"{spec.size_px} px, mean {spec.mean}, std {spec.std}")


def _weights(backbone: BuiltBackbone) -> Finding:
    origin = backbone.provenance
    missing = origin.weights_missing or 0
    counts = "" if origin.weights_loaded is None else (
        f"; {origin.weights_loaded} loaded, {missing} missing, {origin.weights_unexpected} unexpected"
    )  # fmt: skip
    text = f"{origin.family}, {origin.weights}, pre-trained on {origin.pretrain_data}{counts}"
    return Finding("weights", missing == 0 and not origin.weights_unexpected, text)


def _shape(backbone: BuiltBackbone, features: object) -> Finding:
    wanted = (BATCH, backbone.feature_dim)
    if not isinstance(features, Tensor):
        return Finding("shape", False, f"features() gives {type(features).__name__}, not a Tensor")
    return Finding("shape", tuple(features.shape) == wanted, f"{tuple(features.shape)}, declared {wanted}")


def _finite(_backbone: BuiltBackbone, _images: Tensor, features: Tensor) -> Finding:
    """No feature overflows."""
    bad = int((~torch.isfinite(features)).sum())
    return Finding(
        "finite",
        bad == 0,
        "all features are numbers" if not bad else f"{bad} features are not numbers",
    )


def _deterministic(backbone: BuiltBackbone, images: Tensor, features: Tensor) -> Finding:
    """Two passes give the same."""
    with torch.no_grad():
        again = backbone.features(images)
    same = torch.equal(again, features)
    advice = "two passes differ: is dropout on, or a random draw in features()?"
    return Finding("determinism", same, "two passes are equal" if same else advice)


def _batch_independent(backbone: BuiltBackbone, images: Tensor, features: Tensor) -> Finding:
    """An example's features must not depend on its neighbours."""
    with torch.no_grad():
        alone = torch.cat([backbone.features(image[None]) for image in images])
    scale = features.abs().max().clamp(min=1e-12)
    error = float((alone - features).abs().max() / scale)
    advice = "" if error <= BATCH_TOLERANCE else ": does a layer use statistics of the batch?"
    return Finding("batch independence", error <= BATCH_TOLERANCE, f"relative difference {error:.1e}{advice}")


def _modes(backbone: BuiltBackbone, _images: Tensor, _features: Tensor) -> Finding:
    """`eval()` must reach every layer, or BatchNorm goes on averaging test images."""
    stuck = [name for name, module in backbone.named_modules() if module.training]
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())
    text = (
        f"eval() reaches all layers, {norms} BatchNorm among them"
        if not stuck
        else f"still in train mode: {stuck[:3]}"
    )
    return Finding("eval mode", not stuck, text)


def _repeatable(backbone: BuiltBackbone, again: Callable[[], BuiltBackbone]) -> Finding:
    """Every process must build the same weights."""
    same = again().weights_digest() == backbone.weights_digest()
    advice = "two builds have different weights: draw them from a generator with a fixed seed"
    return Finding("same weights twice", same, "two builds have equal weights" if same else advice)


def _sees(_backbone: BuiltBackbone, _images: Tensor, features: Tensor) -> Finding:
    """Different images must give different features."""
    spread = float(features.std(dim=0).max() / features.abs().max().clamp(min=1e-12))
    return Finding(
        "sees its input",
        spread > 1e-6,
        f"features of different images differ by {spread:.1e} of their size",
    )


def _gradient(backbone: BuiltBackbone, images: Tensor, _features: Tensor) -> Finding:
    """Fine-tuning needs gradients in every weight; a backbone without weights has none to give."""
    weights = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    if not weights:
        frozen = backbone.params > 0
        return Finding("gradient flow", True, "frozen: probes only" if frozen else "no weights: probes only")
    backbone.zero_grad()
    backbone.features(images).square().sum().backward()
    dry = [name for name, p in weights if p.grad is None]
    backbone.zero_grad()
    text = (
        f"reaches all {len(weights)} weights" if not dry else f"does not reach {len(dry)}, such as {dry[0]}"
    )
    return Finding("gradient flow", not dry, text)


_CHECKS: dict[str, Check] = {
    "finite": _finite,
    "determinism": _deterministic,
    "batch independence": _batch_independent,
    "eval mode": _modes,
    "sees its input": _sees,
    "gradient flow": _gradient,
}
