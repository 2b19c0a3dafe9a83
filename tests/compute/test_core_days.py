"""Counted FLOPs against formulas and published figures, and the conversion against the paper's core-days."""

import pytest

from vitbench.backbones.build import build
from vitbench.backbones.cost import backbone_cost
from vitbench.backbones.models.unfilled import on_meta
from vitbench.compute.core_days import core_days, devices, training_flops
from vitbench.compute.flops import forward_flops

JFT_IMAGES = 303e6  # docs/protocols.md#compute-accounting
I21K_IMAGES = 14.2e6


def analytic(size_px, patch, width, layers, mlp):
    """FLOPs of a ViT's matrix products by formula: patches; per layer four projections, two token products, two MLP layers."""
    patches = (size_px // patch) ** 2
    tokens = patches + 1
    layer = tokens * 4 * width**2 + 2 * tokens**2 * width + tokens * 2 * width * mlp
    return 2 * (patches * 3 * patch**2 * width + layers * layer)


@pytest.mark.parametrize(
    ("name", "size_px", "shape", "gmacs"),
    [
        ("vit_base_patch16_224", 224, (16, 768, 12, 3072), 17.58),
        ("vit_base_patch16_224", 384, (16, 768, 12, 3072), 55.48),
        ("vit_base_patch32_224", 224, (32, 768, 12, 3072), 4.41),
        ("vit_large_patch16_224", 224, (16, 1024, 24, 4096), 61.60),
        ("vit_huge_patch14_224", 224, (14, 1280, 32, 5120), 167.40),
    ],
)
def test_a_vits_flops_are_those_of_analysis_and_print(name, size_px, shape, gmacs):
    """Printed GMACs are timm's (docs/protocols.md#compute-accounting); the counter runs without weights."""
    with on_meta():
        backbone = build(f"timm:{name}", {}, meta=True).at_resolution(size_px)
    counted = forward_flops(backbone, size_px)
    patch, width, layers, mlp = shape
    assert counted == pytest.approx(analytic(size_px, patch, width, layers, mlp), rel=1e-3)
    assert counted / 2e9 == pytest.approx(gmacs, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "gmacs"),
    # The networks' sizes in BiT's and EfficientNet's papers and in timm's table of results, without classifier.
    [("resnetv2_50x1_bit", 4.09), ("efficientnet_b0", 0.39), ("efficientnet_b5", 2.41)],
)
def test_convolutions_are_counted(name, gmacs):
    backbone = build(f"timm:{name}", {}, meta=True).at_resolution(224)
    assert forward_flops(backbone, 224) / 2e9 == pytest.approx(gmacs, rel=0.03)


@pytest.mark.parametrize(
    ("name", "images", "printed"),
    [
        ("vit_huge_patch14_224", 14 * JFT_IMAGES, 2500),
        ("vit_large_patch16_224", 14 * JFT_IMAGES, 680),
        ("vit_large_patch16_224", 90 * I21K_IMAGES, 230),
    ],
)
def test_the_conversion_meets_the_papers_core_days_within_a_fifth(name, images, printed):
    flops = forward_flops(build(f"timm:{name}", {"pretrained": False}, meta=True), 224)
    found = core_days(training_flops(flops, images))
    assert found.value == pytest.approx(printed, rel=0.2)
    assert found.low < found.value < found.high
    assert "estimated" in str(found)


def test_device_peaks_are_known_and_define_the_core_day():
    peaks = {device.id: device.peak_tflops for device in devices()}
    assert len(peaks) == 35
    assert peaks["tpu-v3-core"] == 61.5
    assert core_days(61.5e12 * 86_400 * 0.38).value == pytest.approx(1)


@pytest.mark.slow
def test_published_counted_and_measured_costs_are_kept_apart():
    found = backbone_cost("timm:vit_tiny_patch16_224", {}, "cpu", seconds=0.2)
    assert [each.size_px for each in found.counted] == [224, 384]
    assert found.measured.images_per_s > 0
    assert not found.published
    published = backbone_cost("vit-l16-i21k", {}, seconds=0)
    assert published.measured is None
    assert any(each.tpu_v3_core_days == 230 for each in published.published)
    with_fixed_patches = backbone_cost("timm:vit_small_patch14_dinov2", {}, seconds=0)
    assert [each.size_px for each in with_fixed_patches.counted] == [518, 224]  # 384 is not a multiple of 14
