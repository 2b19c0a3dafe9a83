"""The cheap checks of a built backbone: three images forward. `vitbench run` makes them on a backbone's first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.errors import Problem, UsageError, VitbenchError, message_of, source_line_of
from vitbench.core.seeding import torch_generator

BATCH = 2
# Another batch size may run another kernel, so results differ by rounding; deep networks accumulate it, and GPUs round to TF32.
BATCH_TOLERANCE = {"cpu": 1e-3, "cuda": 1e-2}
# A difference between an image in a batch and alone that is rounding, so that a third pass need not show that two are equal.
ROUNDING = 1e-5
LEAST_SPREAD = 1e-6  # between features of different images, relative to the largest feature


@dataclass(frozen=True)
class Finding:
    """The result of one check: its name, whether it passed (None: nobody can know), and what was observed."""

    item: str
    ok: bool | None
    text: str


@dataclass(frozen=True)
class Pass:
    """A forward pass: the backbone, its input (B, 3, S, S), the features (B, D), and those of the first image alone (1, D)."""

    backbone: BuiltBackbone
    images: Tensor
    features: Tensor
    alone: Tensor


Check = Callable[[Pass], Finding]


def refuse_faulty(backbone: BuiltBackbone, spec: str) -> None:
    """Make the cheap checks on a backbone in eval mode.

    Raises:
        UsageError: one fails; the message is that of `vitbench check`.
    """
    faults = [finding for finding in quick_findings(backbone) if finding.ok is False]
    if faults:
        step = f"vitbench check {spec!r}, with the options of the suite as --set name=value"
        raise UsageError([
            Problem(f"check failed: {finding.item}: {finding.text}", next_step=step) for finding in faults
        ])  # fmt: skip


def quick_findings(backbone: BuiltBackbone) -> Iterator[Finding]:
    """What was loaded, and two passes over the same images; stops where further checks are meaningless."""
    yield _input(backbone)
    yield _weights(backbone)
    spec = backbone.input
    noise = torch.rand(BATCH, 3, spec.size_px, spec.size_px, generator=torch_generator(0, "check"))
    weight = next(backbone.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            images = (noise * 2 - 1).to(weight.device)
            features, alone = backbone.features(images), backbone.features(images[:1])
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        yield Finding("shape", False, f"features() {raised(error)}")
        return
    shape = _shape(backbone, features)
    yield shape
    if shape.ok:
        for item, check in CHECKS.items():
            yield guarded(item, check, Pass(backbone, images, features, alone))


def guarded(item: str, check: Check, made: Pass) -> Finding:
    """Run a check; an exception is a failed finding."""
    try:
        return check(made)
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        return Finding(item, False, raised(error))


def raised(error: BaseException) -> str:
    """An error in words, with the line of a plugin that raised it; a user's mistake is its own message."""
    if isinstance(error, VitbenchError):
        return f"raised: {message_of(error)}"
    return f"raised {type(error).__name__}: {message_of(error)} ({source_line_of(error)})"


def _input(backbone: BuiltBackbone) -> Finding:
    """The declared input; whether the weights were trained with it is not known of a bare checkpoint."""
    spec, origin = backbone.input, backbone.provenance
    text = f"{spec.size_px} px, mean {spec.mean}, std {spec.std}"
    if not (spec.size_px > 0 and all(value > 0 for value in spec.std)):
        return Finding("input", False, text)
    doubt = origin.pixel_warning or origin.pixels_unknown
    return Finding("input", None if doubt else True, f"{text}; {doubt}" if doubt else text)


def _weights(backbone: BuiltBackbone) -> Finding:
    """What was loaded; whether arrays that nothing uses and that are no head's matter, nobody can know."""
    origin, load = backbone.provenance, backbone.provenance.load
    parts = [f"{origin.family}, {origin.weights}, pre-trained on {origin.pretrain_data}"]
    if load:
        parts.append(f"{load.used} tensors loaded of {load.in_file} in the file")
        named = {
            "taken": (load.taken,), "left out": load.left_out, "not used": load.unused, "not in the file": load.initialised,
        }  # fmt: skip
        parts += [f"{what}: {', '.join(names)}" for what, names in named.items() if any(names)]
    return Finding("weights", None if load and load.unused else True, "; ".join([*parts, *origin.notes]))


def _shape(backbone: BuiltBackbone, features: object) -> Finding:
    wanted = (BATCH, backbone.feature_dim)
    if not isinstance(features, Tensor):
        return Finding("shape", False, f"features() returned {type(features).__name__}, not a Tensor")
    shape = tuple(features.shape)
    return Finding("shape", shape == wanted, f"{shape}" if shape == wanted else f"{shape}, expected {wanted}")


def _finite(made: Pass) -> Finding:
    """No feature may be NaN or infinite."""
    bad = int((~torch.isfinite(made.features)).sum())
    text = "all features are finite" if not bad else f"{bad} features are NaN or infinite"
    return Finding("finite", bad == 0, text)


def _deterministic(made: Pass) -> Finding:
    """Two forward passes on the same image must give the same features, bit for bit unless they agree to rounding."""
    if made.alone.shape == made.features[:1].shape and _difference(made) <= ROUNDING:
        return Finding("determinism", True, f"two forward passes are equal to {ROUNDING:g}")
    with torch.no_grad():
        again = made.backbone.features(made.images[:1])
    same = torch.equal(again, made.alone)
    advice = "two forward passes differ: is dropout active, or does features() draw random numbers?"
    return Finding("determinism", same, "two forward passes are equal" if same else advice)


def _batch_independent(made: Pass) -> Finding:
    """An image's features must not depend on the rest of its batch."""
    alone = made.alone
    if alone.shape != made.features[:1].shape:
        text = f"one image gives {tuple(alone.shape)}, not {tuple(made.features[:1].shape)}"
        return Finding("batch independence", False, text)
    error = _difference(made)
    tolerance = BATCH_TOLERANCE["cuda" if made.images.is_cuda else "cpu"]
    advice = "" if error <= tolerance else ": does a layer use batch statistics?"
    return Finding("batch independence", error <= tolerance, f"relative difference {error:.1e}{advice}")


def _difference(made: Pass) -> float:
    """The largest difference between the first image's features in the batch and alone, relative to the largest feature."""
    scale = made.features.abs().max().clamp(min=1e-12)
    return float((made.alone - made.features[:1]).abs().max() / scale)


def _modes(made: Pass) -> Finding:
    """`eval()` must reach every layer; otherwise BatchNorm keeps updating its statistics on test images."""
    stuck = [name for name, module in made.backbone.named_modules() if module.training]
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in made.backbone.modules())
    text = (
        f"eval() reaches all layers ({norms} BatchNorm)"
        if not stuck
        else f"still in training mode after eval(): {', '.join(map(repr, stuck[:3]))}"
    )
    return Finding("eval mode", not stuck, text)


def _sees(made: Pass) -> Finding:
    """Features must depend on the image."""
    spread = float(made.features.std(dim=0).max() / made.features.abs().max().clamp(min=1e-12))
    text = f"features of different images have a relative spread of {spread:.1e}"
    return Finding("sees its input", spread > LEAST_SPREAD, text)


CHECKS: dict[str, Check] = {
    "finite": _finite,
    "determinism": _deterministic,
    "batch independence": _batch_independent,
    "eval mode": _modes,
    "sees its input": _sees,
}
