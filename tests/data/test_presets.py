"""Presets of Pillow's family against the libraries themselves, pixel by pixel, on images of odd sizes."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from vitbench.api import EvaluationTransform
from vitbench.core.errors import UsageError
from vitbench.data import pillow
from vitbench.data.preprocess import apply, normalise, preset

RNG = np.random.default_rng(11)
# (height, width): single pixels, lines, extreme aspect, smaller and larger than the crop, odd differences on either side.
SIZES = [
    (1, 1), (1, 2), (2, 1), (1, 90), (90, 1), (2, 3), (3, 200), (200, 3), (5, 5), (7, 5), (13, 29), (29, 13), (31, 33),
    (33, 31), (17, 120), (120, 17), (63, 64), (64, 64), (65, 63), (73, 73), (74, 73), (73, 77), (96, 128), (97, 128),
    (128, 99), (100, 75), (75, 100), (101, 151), (150, 101), (187, 250), (250, 187), (333, 250), (250, 331), (211, 64),
    (64, 213), (500, 60),
]  # fmt: skip
SIZE_PX = 64


def photograph(height, width):
    """Smooth, with edges and noise, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width] / 17
    waves = np.stack([np.sin(y + c) * np.cos(x * (c + 1)) for c in range(3)], axis=2)
    noise = RNG.normal(size=waves.shape) * 0.2
    return ((waves + noise + (np.floor(x + y) % 3)[..., None] - 1) * 70 + 128).clip(0, 255).astype(np.uint8)


IMAGES = [photograph(*size) for size in SIZES]
GREY = [np.repeat(image[..., :1], 3, axis=2) for image in IMAGES[::6]]
SHARP = [RNG.integers(0, 2, (*size, 3), dtype=np.uint8) * 255 for size in SIZES[::6]]  # the cubic overshoots
EVERY = [*IMAGES, *GREY, *SHARP]


def shorter_side(resize_px, size_px, interpolation):
    return [transforms.Resize(resize_px, interpolation=interpolation), transforms.CenterCrop(size_px)]


# By preset, the steps of its reference at an input size of S, before tensors.
REFERENCES = {
    # DN:dinov2/data/transforms.py:77-91
    "dinov2_knn": lambda s: shorter_side(round(s * 256 / 224), s, InterpolationMode.BICUBIC),
    # CL:clip/clip.py:79-86; DN:dinov2/eval/log_regression.py:376
    "clip": lambda s: shorter_side(s, s, InterpolationMode.BICUBIC),
    # TV:transforms/_presets.py, ImageClassification with its defaults
    "torchvision": lambda s: shorter_side(round(s * 256 / 224), s, InterpolationMode.BILINEAR),
}


def differences(how, reference, images):
    """The images, by number and size, whose pixels differ from the reference's."""
    found = apply(images, how)
    wanted = [transforms.PILToTensor()(reference(Image.fromarray(image))) for image in images]
    pairs = enumerate(zip(found, wanted, strict=True))
    return [(i, images[i].shape[:2]) for i, (ours, theirs) in pairs if not torch.equal(ours, theirs)]


@pytest.mark.parametrize("name", REFERENCES)
def test_a_preset_equals_its_reference_to_the_last_level(name):
    assert len(EVERY) > 40
    reference = transforms.Compose(REFERENCES[name](SIZE_PX))
    assert differences(preset(name, SIZE_PX), reference, EVERY) == []


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("size_px", [28, 37, 224])
def test_other_image_sizes(name, size_px):
    reference = transforms.Compose(REFERENCES[name](size_px))
    assert differences(preset(name, size_px), reference, IMAGES[::5]) == []


@pytest.mark.parametrize("name", REFERENCES)
def test_the_same_by_matrix_products_as_on_a_gpu(name, monkeypatch):
    monkeypatch.setattr(pillow, "MOST_PIXELS", 0)
    reference = transforms.Compose(REFERENCES[name](SIZE_PX))
    assert differences(preset(name, SIZE_PX), reference, EVERY) == []


def test_normalised_tensors_equal_the_reference_up_to_the_rounding_of_float32():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [*REFERENCES["dinov2_knn"](SIZE_PX), transforms.ToTensor(), transforms.Normalize(mean, std)]
    wanted = torch.stack([transforms.Compose(steps)(Image.fromarray(image)) for image in IMAGES])
    found = normalise(apply(IMAGES, preset("dinov2_knn", SIZE_PX)), mean, std)
    assert (found - wanted).abs().max() <= 5e-7


def weights_of_torchvision():
    for name in torchvision.models.list_models(module=torchvision.models):
        yield from torchvision.models.get_model_weights(name)


def test_torchvisions_own_weights_have_their_own_transforms():
    found = {}
    for entry in weights_of_torchvision():
        own = entry.transforms()
        assert own.antialias
        crop, resize = own.crop_size[0], own.resize_size[0]
        how = preset(
            "torchvision",
            crop,
            EvaluationTransform(crop / resize, own.interpolation.value, library="torchvision"),
        )
        assert (how.resize_px, how.crop_px) == (resize, crop), entry
        found[crop, resize, own.interpolation] = (how, own)
    assert len(found) > 15
    for how, own in list(found.values())[::6]:
        resized = transforms.Resize(own.resize_size, own.interpolation)
        assert (
            differences(how, transforms.Compose([resized, transforms.CenterCrop(own.crop_size)]), IMAGES[::7])
            == []
        )


def timm_settings():
    """Every combination of crop mode, interpolation and share that timm's weights have, and two that they do not."""
    configs = [timm.get_pretrained_cfg(name).to_dict() for name in timm.list_pretrained()]
    resolved = [resolve_data_config(pretrained_cfg=config) for config in configs]
    found = {(one["crop_mode"], one["interpolation"], one["crop_pct"]) for one in resolved}
    return sorted({*found, ("border", "bilinear", 0.9), ("squash", "bicubic", 1.2)})


def timm_steps(crop_mode, interpolation, crop_pct, size_px, mean):
    """Timm's transform without the last two steps, to a tensor and normalisation."""
    built = create_transform(
        (3, size_px, size_px), interpolation=interpolation, crop_pct=crop_pct, crop_mode=crop_mode, mean=mean
    )
    return transforms.Compose(built.transforms[:-2])


def too_thin_for_timm(image, how):
    """Timm refuses images whose shorter side would have no pixel left."""
    return (
        how.resize == "longer_side"
        and round(how.resize_px * min(image.shape[:2]) / max(image.shape[:2])) == 0
    )


def test_timm_eval_equals_timm_for_every_setting_of_its_weights():
    settings = timm_settings()
    assert len(settings) > 35
    assert {mode for mode, _, _ in settings} == {"center", "squash", "border"}
    mean = (0.481, 0.457, 0.408)
    wrong = {}
    for number, (mode, interpolation, share) in enumerate(settings):
        how = preset("timm_eval", SIZE_PX, EvaluationTransform(share, interpolation, mode, border=mean))
        several = EVERY if mode == "border" else EVERY[number % 5 :: 5]
        images = [image for image in several if not too_thin_for_timm(image, how)]
        assert len(images) > 6
        wrong[mode, interpolation, share] = differences(
            how, timm_steps(mode, interpolation, share, SIZE_PX, mean), images
        )
    assert {setting: images for setting, images in wrong.items() if images} == {}


def test_an_image_too_thin_for_timm_keeps_a_line():
    how = preset("timm_eval", 28, EvaluationTransform(1.0, "bicubic", "border", border=(1.0, 0.0, 0.5)))
    (found,) = apply([np.full((1, 500, 3), 77, np.uint8)], how)
    assert torch.equal(found[:, 0, 0], torch.tensor([255, 0, 128], dtype=torch.uint8))
    assert (found == 77).all(0).any(1).sum() == 1


def test_timm_eval_is_refused_without_a_transform():
    with pytest.raises(UsageError, match="evaluation"):
        preset("timm_eval", 224)
    with pytest.raises(UsageError, match="evaluation"):
        preset("timm_eval", 224, EvaluationTransform(0.875, "bilinear", library="torchvision"))


@pytest.mark.parametrize("name", ["clip", "torchvision", "resize_small"])
def test_a_long_line_of_pixels_needs_little_memory(name):
    """Made whole, it would have 224 x 14,336,000 pixels."""
    line = np.arange(64_000 * 3, dtype=np.uint32).reshape(1, 64_000, 3).astype(np.uint8)
    assert apply([line], preset(name, 224)).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_matrix_products_equal_pillow_at_any_size(interpolation):
    """Sizes on both sides of the rule by which Pillow chooses what to resize first."""
    for _ in range(300):
        height, width, *size = (int(side) for side in RNG.integers(1, 90, 4))
        image = torch.from_numpy(RNG.integers(0, 256, (1, height, width, 3), dtype=np.uint8)).permute(
            0, 3, 1, 2
        )
        rest = (image, tuple(size), interpolation, (range(size[0]), range(size[1])))
        assert torch.equal(pillow.in_two_passes(*rest), pillow.resized(*rest)), (height, width, size)
