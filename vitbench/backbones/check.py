"""Check a built backbone against the contract of vitbench.api: `vitbench check NAME`, and tests of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from vitbench.backbones.batch_norm_check import batch_norm_finding
from vitbench.backbones.build import build
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.precision_check import Precision, precision_findings
from vitbench.backbones.quick_check import BATCH, Check, Finding, Pass, guarded, quick_findings, raised
from vitbench.backbones.token_check import token_finding
from vitbench.core.errors import DataMissingError, UsageError, VitbenchError
from vitbench.core.registry import BACKBONES
from vitbench.core.seeding import torch_generator

OTHER_SIZE_PX = 32  # by how much the image size is changed: the largest common stride
FEW_NAMES = 0.05  # of a network's tensors may depend on its image size: position embeddings do


def check_backbone(
    spec: str, options: dict[str, Any] | None = None, *, device: str = "cpu", dtype: Precision | None = None
) -> list[Finding]:
    """Build a registered backbone and return one finding per check; stops where further checks are meaningless.

    Checks run in float32 on the CPU. What is different on `device`, and in `dtype` there (by default
    bfloat16 on a GPU), is a finding of its own.

    Raises:
        UsageError: no backbone has that name, an option is invalid, or there is no such device.
        DataMissingError: the weights are not here and cannot be downloaded.
    """
    BACKBONES.check(spec, options or {})
    rebuild = partial(build, spec, options or {})
    try:
        backbone = rebuild()
    except DataMissingError:  # nothing is wrong with the backbone: its weights are not here
        raise
    except VitbenchError as error:
        return [Finding("builds", False, str(error))]
    except (Exception, SystemExit) as error:  # noqa: BLE001  plugin code may raise anything
        return [Finding("builds", False, raised(error))]
    findings = list(_findings(backbone, rebuild))
    if all(finding.ok is not False for finding in findings):
        findings += precision_findings(backbone, device, dtype)
    return findings


def _findings(backbone: BuiltBackbone, rebuild: Callable[[], BuiltBackbone]) -> Iterator[Finding]:
    yield Finding("builds", True, f"{backbone.params:,} parameters, {backbone.feature_dim} features")
    yield _labels_seen(backbone)
    quick = list(quick_findings(backbone.eval()))
    yield from quick
    if not next((finding.ok for finding in quick if finding.item == "shape"), False):
        return
    size_px = backbone.input.size_px
    noise = torch.rand(BATCH, 3, size_px, size_px, generator=torch_generator(0, "check"))
    made = Pass(backbone, noise * 2 - 1, torch.empty(0), torch.empty(0))
    for item, check in _CHECKS.items():
        yield guarded(item, check, made)
    if fitting := batch_norm_finding(backbone):
        yield fitting
    if tokens := token_finding(backbone):
        yield tokens
    yield _repeatable(backbone, rebuild)


def _labels_seen(backbone: BuiltBackbone) -> Finding:
    """Which labels the weights have seen: scores on these are no transfer."""
    seen = backbone.provenance.trained_on
    if seen is None:
        return Finding("labels seen", None, "not known: state `trained_on`, [] if the labels of no task")
    return Finding("labels seen", True, f"those of {', '.join(seen)}" if seen else "none of a task's")


def _repeatable(backbone: BuiltBackbone, rebuild: Callable[[], BuiltBackbone]) -> Finding:
    """Every process must build the same weights."""
    same = rebuild().weights_digest() == backbone.weights_digest()
    advice = "two builds have different weights: initialise them from a generator with a fixed seed"
    return Finding("same weights twice", same, "two builds have equal weights" if same else advice)


def _gradient(made: Pass) -> Finding:
    """Gradients must reach every weight that fine-tuning trains; a backbone without any works with probes only."""
    backbone = made.backbone.trainable()
    weights = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    if not weights:
        frozen = backbone.params > 0
        return Finding(
            "gradient flow", True, "frozen: for probes only" if frozen else "no weights: for probes only"
        )
    backbone.zero_grad()
    backbone.features(made.images).square().sum().backward()
    unreached = [name for name, p in weights if p.grad is None]
    backbone.zero_grad()
    text = (
        f"reaches all {len(weights)} weights"
        if not unreached
        else f"does not reach {len(unreached)} of {len(weights)} weights, such as {unreached[0]}"
    )
    return Finding("gradient flow", not unreached, text)


def _other_size(made: Pass) -> Finding:
    """At another image size the network must be the same: its weights, but for position embeddings, and its settings."""
    item, backbone = "other image size", made.backbone
    try:
        other = backbone.at_least(backbone.input.size_px + OTHER_SIZE_PX).eval()
    except UsageError as error:
        return Finding(item, True, f"not possible: {error.problems[0].what}")
    size_px = other.input.size_px
    noise = torch.rand(1, 3, size_px, size_px, generator=torch_generator(0, "check at another size"))
    try:
        with torch.no_grad():
            features = other.features(noise * 2 - 1)
    except UsageError as error:
        return Finding(item, True, f"not possible: {error.problems[0].what}")
    wrong = [*_other_weights(backbone, other), *_other_settings(backbone, other)]
    if features.shape[1] != backbone.feature_dim and backbone.params:
        wrong.append(f"{features.shape[1]} features in place of {backbone.feature_dim}")
    if wrong:
        return Finding(item, False, f"at_resolution({size_px}) is another network: {'; '.join(wrong[:3])}")
    resized = [name for name in _resized(backbone, other) if "num_batches" not in name]
    return Finding(
        item, True, f"{size_px} px: equal weights" + (f", but {', '.join(resized[:3])}" if resized else "")
    )


def _resized(one: BuiltBackbone, other: BuiltBackbone) -> list[str]:
    first, second = one.module.state_dict(), other.module.state_dict()
    return [name for name in first if name in second and first[name].shape != second[name].shape]


def _other_weights(one: BuiltBackbone, other: BuiltBackbone) -> Iterator[str]:
    first, second = one.module.state_dict(), other.module.state_dict()
    if first.keys() != second.keys():
        yield f"it has other weights, such as {min(first.keys() ^ second.keys())}"
        return
    resized = _resized(one, other)
    if len(resized) > max(FEW_NAMES * len(first), 1):
        yield f"{len(resized)} of {len(first)} weights have other shapes, such as {resized[0]}"
    changed = [name for name in first if name not in resized and not torch.equal(first[name], second[name])]
    if changed:
        yield f"{len(changed)} of {len(first)} weights have other values, such as {changed[0]}"


def _other_settings(one: BuiltBackbone, other: BuiltBackbone) -> Iterator[str]:
    if one.input.mean != other.input.mean or one.input.std != other.input.std:
        yield "its input has another mean or std"
    if one.provenance != other.provenance:
        yield "its provenance differs"
    own, found = vars(one.module), vars(other.module)
    for name, value in own.items():
        if isinstance(value, bool | str | float) and found.get(name) != value:
            yield f"{name} is {found.get(name)!r}, not {value!r}"


_CHECKS: dict[str, Check] = {
    "gradient flow": _gradient,
    "other image size": _other_size,
}
