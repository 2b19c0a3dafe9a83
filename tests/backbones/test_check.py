"""Every registered backbone conforms, and the check finds each fault it claims to find."""

import copy

import pytest
import torch
from torch import nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.check import check_backbone
from vitbench.core.record import LoadReport
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS
from vitbench.core.source_files import BUILT_IN
from vitbench.engine.components import load_all

load_all()  # what is registered parametrises tests below

SMALL_TIMM = ("resnet10t", "efficientnet_b0", "vit_tiny_patch16_224", "resnetv2_50x1_bit")


@pytest.mark.parametrize(
    "spec", [e.name for e in BACKBONES.entries() if not e.argument and e.origin == BUILT_IN]
)
def test_registered_backbones_conform(spec):
    assert [finding for finding in check_backbone(spec) if not finding.ok] == []


@pytest.mark.parametrize("model", SMALL_TIMM)
def test_timm_backbones_conform(model):
    findings = check_backbone(f"timm:{model}", {"pretrained": False, "size_px": 64})
    assert [finding for finding in findings if not finding.ok] == []
    assert any("untrained" in finding.text for finding in findings)


@pytest.mark.parametrize("registry", [BACKBONES, TASKS, PROTOCOLS], ids=lambda r: r.kind)
def test_every_registered_object_has_a_description(registry):
    for entry in registry.entries():
        assert entry.summary, entry.name
        entry.options.model_json_schema()
        if entry.kind == "task":
            assert entry.labels["group"]


@pytest.mark.parametrize(
    "entry",
    [e for e in TASKS.entries() if not any(field.is_required() for field in e.options.model_fields.values())],
    ids=lambda e: e.name,
)
def test_registered_tasks_are_consistent(entry, data_dir):
    task = entry.build()
    splits = [task.train(), task.val(), task.test()]
    for split in splits:
        assert len(split) == len(split.labels) > 0
        assert split.labels.min() >= 0
        assert split.labels.max() < len(task.class_names)
        image = split.source.read([int(split.indices[0])])[0]
        assert image.ndim == 3
        assert image.shape[2] == 3
    prints = [split.source.fingerprint for split in splits]
    assert len(set(prints)) == 3


class Good(nn.Module):
    provenance = Provenance("x", "untrained", "none")

    def __init__(self):
        super().__init__()
        self.input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)
        self.feature_dim = 6
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)

    def features(self, images):
        return self.norm(self.conv(images)).square().mean((2, 3))


class WrongShape(Good):
    def features(self, images):
        return self.conv(images)


class Dropout(Good):
    def features(self, images):
        return nn.functional.dropout(super().features(images), 0.5, training=True)


class BatchStatistics(Good):
    def features(self, images):
        features = super().features(images)
        return features - features.mean(0)


class StuckInTrainMode(Good):
    def train(self, mode=True):
        super().train(mode)
        self.norm.training = True
        return self


class Detached(Good):
    def features(self, images):
        return super().features(images).detach() + self.norm.weight


class Blind(Good):
    def features(self, images):
        return torch.ones(len(images), 6) * self.conv.weight.mean()


class NotANumber(Good):
    def features(self, images):
        return super().features(images) / 0


class Raises(Good):
    def features(self, images):
        raise RuntimeError("boom")


class Leaves(Good):
    def features(self, images):
        raise SystemExit(0)


class NoFeatures(nn.Module):
    input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)
    feature_dim = 6


class NoInput(Good):
    def __init__(self):
        super().__init__()
        del self.input


class Unexpected(Good):
    provenance = Provenance("x", "pretrained", "y", load=LoadReport(in_file=7, used=3, unused=("a.b", "c")))


class AtAnySize(Good):
    pooling = "mean"

    def at_resolution(self, size_px):
        other = copy.deepcopy(self)
        other.input = InputSpec(size_px, (0.5,) * 3, (0.5,) * 3)
        return other


class ForgetsItsWeights(AtAnySize):
    def at_resolution(self, size_px):
        other = super().at_resolution(size_px)
        nn.init.ones_(other.conv.weight)
        return other


class ForgetsItsVariant(AtAnySize):
    def __init__(self, pooling="max"):
        super().__init__()
        self.pooling = pooling

    def at_resolution(self, size_px):
        other = super().at_resolution(size_px)
        other.pooling = "mean"
        return other


class ForgetsItsNormalisation(AtAnySize):
    def at_resolution(self, size_px):
        other = super().at_resolution(size_px)
        other.input = InputSpec(size_px, (0.0,) * 3, (1.0,) * 3)
        return other


class IsWiderThere(AtAnySize):
    def at_resolution(self, size_px):
        other = super().at_resolution(size_px)
        other.conv, other.norm, other.feature_dim = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), 8
        return other.eval()


class NoGradient(Good):
    def features(self, images):
        with torch.no_grad():
            return super().features(images)


class Squeezes(Good):
    def features(self, images):
        return super().features(images).squeeze()


class OtherWeightsEachTime(Good):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.conv.bias.fill_(next(COUNTER))


COUNTER = iter(range(100))


class NoPixels(Good):
    def __init__(self):
        super().__init__()
        self.input = InputSpec(8, (0.5,) * 3, (0.0,) * 3)


@pytest.mark.parametrize(
    ("module", "item"),
    [
        (WrongShape, "shape"),
        (Dropout, "determinism"),
        (BatchStatistics, "batch independence"),
        (StuckInTrainMode, "eval mode"),
        (Detached, "gradient flow"),
        (Blind, "sees its input"),
        (NotANumber, "finite"),
        (Raises, "shape"),
        (NoFeatures, "builds"),
        (Leaves, "shape"),
        (NoInput, "builds"),
        (ForgetsItsWeights, "other image size"),
        (ForgetsItsVariant, "other image size"),
        (ForgetsItsNormalisation, "other image size"),
        (IsWiderThere, "other image size"),
        (NoPixels, "input"),
        (Unexpected, "weights"),
        (NoGradient, "gradient flow"),
        (Squeezes, "batch independence"),
        (OtherWeightsEachTime, "same weights twice"),
    ],
)
def test_each_fault_is_found(module, item):
    with BACKBONES.restored():
        BACKBONES.register("good")(Good)
        BACKBONES.register("resizable")(AtAnySize)
        BACKBONES.register("faulty")(module)
        assert [f.item for name in ("good", "resizable") for f in check_backbone(name) if not f.ok] == []
        assert item in [f.item for f in check_backbone("faulty") if not f.ok]
