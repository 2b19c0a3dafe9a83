from typing import get_args

import numpy as np
import pytest
import torch

from vitbench.api import EvaluationTransform
from vitbench.core.job import PreprocessName
from vitbench.data.preprocess import apply, normalise, preset

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "resize_px"),
    [
        ("squash", 224), ("fewshot", 256), ("resize_small", 261), ("dinov2_knn", 256), ("clip", 224), ("torchvision", 256),
        ("centre_crop", 256),
    ],
)  # fmt: skip
def test_presets_at_the_papers_size(name, resize_px):
    how = preset(name, 224)
    assert (how.resize_px, how.crop_px) == (resize_px, 224)
    assert preset("resize_small", 384).resize_px == 448  # docs/protocols.md#preprocessing-presets


@pytest.mark.parametrize("name", get_args(PreprocessName))
def test_images_of_mixed_sizes_are_preprocessed_as_if_alone(name):
    how = preset(name, 28, EvaluationTransform(0.9, "bicubic", "border", border=(0.5, 0.4, 0.3)))
    images = [
        RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 31), (9, 70), (28, 28), (1, 1))
    ]
    together = apply(images, how)
    assert together.shape == (4, 3, 28, 28)
    for image, one in zip(images, together, strict=True):
        assert torch.equal(apply([image], how)[0], one)


def test_preprocessing_is_repeatable_and_does_not_change_the_image():
    image = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    before = image.copy()
    first = normalise(apply([image], preset("squash", 8)), (0.5,) * 3, (0.5,) * 3)
    again = normalise(apply([image], preset("squash", 8)), (0.5,) * 3, (0.5,) * 3)
    assert torch.equal(first, again)
    assert np.array_equal(image, before)


def test_normalisation_follows_its_definition():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = torch.from_numpy(RNG.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8))
    wanted = (pixels.double().numpy() / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    assert np.abs(normalise(pixels, mean, std).numpy() - wanted).max() < 1e-5


def test_presets_that_differ_have_descriptions_that_differ():
    """The description is part of a feature's cache key."""
    own = [
        EvaluationTransform(0.875, "bilinear"), EvaluationTransform(0.875, "bilinear", "squash"),
        EvaluationTransform(0.875, "bilinear", "border"), EvaluationTransform(0.875, "bilinear", "border", (0.5, 0.5, 0.5)),
        EvaluationTransform(0.9, "bilinear"), EvaluationTransform(0.9, "bicubic"),
    ]  # fmt: skip
    hows = {preset(name, 224, one) for name in get_args(PreprocessName) for one in own}
    texts = {how.describe((0.5,) * 3, (0.5,) * 3) for how in hows}
    assert len(hows) == len(texts) > 10
    assert "centre crop 224 px as torchvision" in preset("clip", 224).describe((0.5,) * 3, (0.5,) * 3)


def test_the_description_names_every_step():
    text = preset("fewshot", 224).describe((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for part in ("tf2_bilinear", "256 px square", "cut to uint8", "crop 224 px", "(x/255 - 0.5) / 0.5"):
        assert part in text


@pytest.mark.parametrize("std", [(0.5,) * 3, (0.229, 0.224, 0.225)])
def test_one_scale_for_all_channels_gives_what_three_give(std):
    """The channels of equal means and deviations are those of one tensor by channel, to the last bit."""
    images = torch.from_numpy(RNG.integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
    found = normalise(images, (0.481,) * 3, std)
    for channel in range(3):
        scale, shift = torch.tensor(1 / (255 * std[channel])), torch.tensor(0.481 / std[channel])
        assert torch.equal(found[:, channel], images[:, channel].float() * scale - shift)
