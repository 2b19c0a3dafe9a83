"""Trained weights, from a package of the extra `test`, must be worth what trained weights are worth."""

import pytest
import safetensors.torch
import timm
import torch
from sklearn.datasets import load_sample_images

import vitbench
from tests.making.cifar10 import unpack_images
from vitbench.backbones.build import build
from vitbench.backbones.catalog import entry_of
from vitbench.backbones.check import check_backbone
from vitbench.backbones.models import effnet_lite0
from vitbench.backbones.models.effnet_lite0 import timm_names, weights_file
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.data import preprocess

NAME = "tf_efficientnet_lite0"
SUITE = """
name: real-weights
preprocess: squash
backbones:
  - {{name: "timm:tf_efficientnet_lite0", checkpoint: "{weights}", size_px: 64, label: trained}}
  - {{name: "timm:tf_efficientnet_lite0", pretrained: false, size_px: 64, label: untrained}}
tasks: [{{name: cifar10 images, source: folder, path: "{folder}"}}]
protocols: [ridge_probe]
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights that Google trained on ImageNet, under timm's names."""
    state = torch.load(weights_file(), map_location="cpu", weights_only=True)
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
    unpack_images(tmp_path / "images")
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


def test_its_short_name_loads_them_and_says_what_they_were_trained_on(weights):
    by_name, by_file = build("effnet-lite0", {}), build(f"timm:{NAME}", {"checkpoint": weights})
    assert by_name.provenance.trained_on == ("imagenet2012",)
    assert by_name.provenance.licence == "Apache-2.0"
    assert by_name.provenance.load.unused == ()
    own, same = by_name.state_dict(), by_file.state_dict()
    assert all(torch.equal(own[key], value) for key, value in same.items())
    assert by_name.input == by_file.input
    assert by_name.params / 1e6 == pytest.approx(entry_of("packaged:effnet-lite0").params_m, abs=0.006)


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr(effnet_lite0, "PACKAGE", "no_such_package_here")
    with pytest.raises(DataMissingError, match="demo"):
        build("effnet-lite0", {})


def test_another_file_of_that_name_is_refused(monkeypatch):
    monkeypatch.setattr(effnet_lite0, "SHA256", "0" * 64)
    with pytest.raises(UsageError, match="SHA-256 differs"):
        build("effnet-lite0", {})
