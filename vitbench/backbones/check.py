"""Check a built backbone against the contract of vitbench.api: `vitbench check NAME`, and tests of plugins."""

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
# Another batch size may run another kernel, so results differ by float32 rounding; deep networks accumulate it.
BATCH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Finding:
    """The result of one check: its name, whether it passed, and what was observed."""

    item: str
    ok: bool
    text: str


Check = Callable[[BuiltBackbone, Tensor, Tensor], Finding]


def check_backbone(spec: str, options: dict[str, Any] | None = None) -> list[Finding]:
    """Build a registered backbone and return one finding per check; stops where further checks are meaningless.

    Raises:
        UsageError: no backbone has that name, or an option is invalid.
    """
    BACKBONES.check(spec, options or {})
    rebuild = partial(build, spec, options or {})
    try:
        backbone = rebuild()
    except VitbenchError as error:
        return [Finding("builds", False, str(error))]
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        return [Finding("builds", False, f"{type(error).__name__}: {error}")]
    return list(_findings(backbone, rebuild))


def _guarded(
    item: str,
    check: Check,
    backbone: BuiltBackbone,
    images: Tensor,
    features: Tensor,
) -> Finding:
    """Run a check; an exception is a failed finding."""
    try:
        return check(backbone, images, features)
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        return Finding(item, False, f"raised {type(error).__name__}: {error}")


def _findings(backbone: BuiltBackbone, rebuild: Callable[[], BuiltBackbone]) -> Iterator[Finding]:
    yield Finding("builds", True, f"{backbone.params:,} parameters, {backbone.feature_dim} features")
    yield _normalisation(backbone)
    yield _weights(backbone)
    backbone.eval()
    spec = backbone.input
    images = torch.rand(BATCH, 3, spec.size_px, spec.size_px, generator=torch_generator(0, "check"))
    try:
        with torch.no_grad():
            features = backbone.features(images * 2 - 1)
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        yield Finding("shape", False, f"features() raised {type(error).__name__}: {error}")
        return
    shape = _shape(backbone, features)
    yield shape
    if shape.ok:
        for item, check in _CHECKS.items():
            yield _guarded(item, check, backbone, images * 2 - 1, features)
        yield _repeatable(backbone, rebuild)


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
        return Finding("shape", False, f"features() returned {type(features).__name__}, not a Tensor")
    shape = tuple(features.shape)
    return Finding("shape", shape == wanted, f"{shape}" if shape == wanted else f"{shape}, expected {wanted}")


def _finite(_backbone: BuiltBackbone, _images: Tensor, features: Tensor) -> Finding:
    """No feature may be NaN or infinite."""
    bad = int((~torch.isfinite(features)).sum())
    return Finding(
        "finite",
        bad == 0,
        "all features are finite" if not bad else f"{bad} features are NaN or infinite",
    )


def _deterministic(backbone: BuiltBackbone, images: Tensor, features: Tensor) -> Finding:
    """Two forward passes on the same images must give the same features."""
    with torch.no_grad():
        again = backbone.features(images)
    same = torch.equal(again, features)
    advice = "two forward passes differ: is dropout active, or does features() draw random numbers?"
    return Finding("determinism", same, "two forward passes are equal" if same else advice)


def _batch_independent(backbone: BuiltBackbone, images: Tensor, features: Tensor) -> Finding:
    """An image's features must not depend on the rest of its batch."""
    with torch.no_grad():
        alone = torch.cat([backbone.features(image[None]) for image in images])
    scale = features.abs().max().clamp(min=1e-12)
    error = float((alone - features).abs().max() / scale)
    advice = "" if error <= BATCH_TOLERANCE else ": does a layer use batch statistics?"
    return Finding("batch independence", error <= BATCH_TOLERANCE, f"relative difference {error:.1e}{advice}")


def _modes(backbone: BuiltBackbone, _images: Tensor, _features: Tensor) -> Finding:
    """`eval()` must reach every layer; otherwise BatchNorm keeps updating its statistics on test images."""
    stuck = [name for name, module in backbone.named_modules() if module.training]
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())
    text = (
        f"eval() reaches all layers ({norms} BatchNorm)"
        if not stuck
        else f"still in training mode after eval(): {', '.join(map(repr, stuck[:3]))}"
    )
    return Finding("eval mode", not stuck, text)


def _repeatable(backbone: BuiltBackbone, rebuild: Callable[[], BuiltBackbone]) -> Finding:
    """Every process must build the same weights."""
    same = rebuild().weights_digest() == backbone.weights_digest()
    advice = "two builds have different weights: initialise them from a generator with a fixed seed"
    return Finding("same weights twice", same, "two builds have equal weights" if same else advice)


def _sees(_backbone: BuiltBackbone, _images: Tensor, features: Tensor) -> Finding:
    """Features must depend on the image."""
    spread = float(features.std(dim=0).max() / features.abs().max().clamp(min=1e-12))
    return Finding(
        "sees its input",
        spread > 1e-6,
        f"features of different images have a relative spread of {spread:.1e}",
    )


def _gradient(backbone: BuiltBackbone, images: Tensor, _features: Tensor) -> Finding:
    """Gradients must reach every trainable weight; a backbone without any works with probes only."""
    weights = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    if not weights:
        frozen = backbone.params > 0
        return Finding(
            "gradient flow", True, "frozen: for probes only" if frozen else "no weights: for probes only"
        )
    backbone.zero_grad()
    backbone.features(images).square().sum().backward()
    unreached = [name for name, p in weights if p.grad is None]
    backbone.zero_grad()
    text = (
        f"reaches all {len(weights)} weights"
        if not unreached
        else f"does not reach {len(unreached)} of {len(weights)} weights, such as {unreached[0]}"
    )
    return Finding("gradient flow", not unreached, text)


_CHECKS: dict[str, Check] = {
    "finite": _finite,
    "determinism": _deterministic,
    "batch independence": _batch_independent,
    "eval mode": _modes,
    "sees its input": _sees,
    "gradient flow": _gradient,
}
