"""Augmentation: seeded per example, drawn as the references draw it, and never what a task excludes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.data.augment import (
    ATTEMPTS,
    Augmentation,
    flip,
    inception_boxes,
    random_crop,
    uniforms,
)
from vitbench.data.rand_augment import MOVING, OPERATIONS, TURNING, RandAugment, fill_of

EXAMPLES = np.arange(4000)
IMAGES = torch.rand(16, 3, 24, 30, generator=torch.Generator().manual_seed(0)) * 255


def test_the_numbers_of_an_example_do_not_depend_on_its_batch():
    numbers = uniforms(3, 7, EXAMPLES, 5, "crop")
    order = np.random.default_rng(0).permutation(4000)[:100]
    assert np.array_equal(uniforms(3, 7, order, 5, "crop"), numbers[order])
    for other in (
        uniforms(4, 7, EXAMPLES, 5, "crop"),
        uniforms(3, 8, EXAMPLES, 5, "crop"),
        uniforms(3, 7, EXAMPLES, 5, "flip"),
    ):
        assert abs(np.corrcoef(other.ravel(), numbers.ravel())[0, 1]) < 0.03


def test_numbers_are_uniform_and_uncorrelated():
    numbers = uniforms(0, 0, EXAMPLES, 4, "flip")
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, 20, (0, 1))[0]
    assert ((counts - 800) ** 2 / 800).sum() < 45  # chi-square with 19 degrees of freedom: 0.1 %
    between = np.corrcoef(numbers.T) - np.eye(4)
    assert np.abs(between).max() < 0.06
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.06
    steps = np.asarray([uniforms(0, step, EXAMPLES[:1], 1, "flip")[0, 0] for step in range(2000)])
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1]) < 0.08


def test_half_of_the_examples_are_flipped_whatever_the_batch():
    flipped = flip(IMAGES, 0, 5, np.arange(16))
    mirrored = torch.stack(
        [torch.equal(a, b.flip(2)) * torch.ones(()) for a, b in zip(flipped, IMAGES, strict=True)]
    )
    plain = torch.stack([torch.equal(a, b) * torch.ones(()) for a, b in zip(flipped, IMAGES, strict=True)])
    assert torch.equal(mirrored + plain, torch.ones(16))
    assert torch.equal(flip(IMAGES[5:9], 0, 5, np.arange(5, 9)), flipped[5:9])
    assert 0.46 < (uniforms(0, 0, EXAMPLES, 1, "flip") < 0.5).mean() < 0.54


def test_random_crops_are_parts_of_the_image():
    places = torch.arange(24 * 30).reshape(1, 1, 24, 30).expand(16, 3, 24, 30)
    crops = random_crop(places, 20, 1, 2, np.arange(16))
    assert crops.shape == (16, 3, 20, 20)
    corners = crops[:, 0, 0, 0]
    assert len(set(corners.tolist())) > 8
    wanted = corners[:, None, None] + torch.arange(20)[:, None] * 30 + torch.arange(20)
    assert torch.equal(crops[:, 1], wanted)
    many = random_crop(places[:1].expand(4000, 3, 24, 30), 20, 1, 2, EXAMPLES)[:, 0, 0, 0]
    assert set((many // 30).tolist()) == set(range(5))
    assert set((many % 30).tolist()) == set(range(11))
    with pytest.raises(ValueError, match="does not fit"):
        random_crop(places, 25, 0, 0, np.arange(16))


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (32, 32), (375, 1242), (7, 5)])
def test_inception_boxes_keep_area_and_ratio(size):
    sizes = np.tile(size, (4000, 1))
    boxes = inception_boxes(sizes, 0, 3, EXAMPLES)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    whole = (height == size[0]) & (width == size[1])
    share = height * width / (size[0] * size[1])
    assert share.min() >= 0.05
    slack = 0.5 / height  # widths are rounded to pixels
    assert ((np.abs(width / height - 1) < 1 / 3 + slack + 0.01) | whole).all()
    if min(size) > 100:
        assert np.unique(top).size > 40
        assert share.std() > 0.05


def test_inception_boxes_are_drawn_as_tensorflow_draws_them():
    """Against plain Python, one image at a time, written from the description of the op, whose largest ratio is 1.33."""
    size = (60, 80)
    boxes = inception_boxes(np.tile(size, (300, 1)), 9, 4, np.arange(300))
    for example in range(300):
        for attempt in range(ATTEMPTS):
            u = uniforms(9, 4 * ATTEMPTS + attempt, np.asarray([example]), 4, "crop")[0]
            ratio = 0.75 + u[0] * (1.33 - 0.75)
            least, most = 0.05 * 4800, 4800.0
            low, high = round((least / ratio) ** 0.5), round((most / ratio) ** 0.5)
            if round(high * ratio) > size[1]:
                high = int((size[1] + 0.5 - 1e-7) / ratio)
            high = min(high, size[0])
            low = min(low, high)
            tall = low + int(u[1] * (high - low + 1))
            wide = round(tall * ratio)
            if tall * wide < least:
                tall += 1
                wide = round(tall * ratio)
            if tall * wide > most:
                tall -= 1
                wide = round(tall * ratio)
            if least <= tall * wide <= most and wide <= size[1] and tall <= size[0]:
                break
        else:
            raise AssertionError("no box")
        wanted = [int(u[2] * (60 - tall)), int(u[3] * (80 - wide)), tall, wide]
        assert boxes[example].tolist() == wanted


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("crops", [True, False])
def test_the_exclusions_of_a_task_override_the_recipe(flips, crops):
    recipe = Augmentation("inception", flip=True, mixup_alpha=0.1)
    allowed = recipe.allowed(flip=flips, crop=crops)
    assert replace(allowed, without=()) == Augmentation("inception" if crops else "none", flips, 0.1)
    assert [text.partition(":")[0] for text in allowed.without] == ["not flipped"] * (not flips) + [
        "not cropped"
    ] * (not crops)
    assert Augmentation().allowed(flip=False, crop=False) == Augmentation()


@pytest.mark.parametrize(("flips", "crops"), [(True, False), (False, True), (False, False), (True, True)])
def test_what_turns_moves_or_hides_is_left_out_where_labels_do_not_survive_it(flips, crops):
    recipe = Augmentation("random_resized", True, 0.8, 1.0, RandAugment(9, 0.5), 0.25)
    allowed = recipe.allowed(flip=flips, crop=crops)
    left = set(OPERATIONS) - set(allowed.rand_augment.without)
    assert left.isdisjoint(TURNING) is (not (flips and crops))
    assert left.isdisjoint(MOVING) is (not crops)
    assert (allowed.cutmix_alpha, allowed.erase) == ((1.0, 0.25) if crops else (0.0, 0.0))
    assert allowed.mixup_alpha == 0.8
    assert (allowed.crop, allowed.flip) == ("random_resized" if crops else "none", flips)
    assert fill_of((0.5, 0.25, 0.999)) == (128, 64, 255)
    said = " ".join(allowed.without)
    assert ("CutMix" in said) is ("erasing" in said) is ("TranslateXRel" in said) is (not crops)
    assert ("Rotate, ShearX, ShearY" in said) is (not (flips and crops))
