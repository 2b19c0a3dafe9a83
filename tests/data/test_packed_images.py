"""Boxes of images of any sizes, resized together: the same as cropping or resizing each image alone."""

import numpy as np
import pytest
import torch

from vitbench.data import packed_images
from vitbench.data.augment import inception_boxes
from vitbench.data.packed_images import PackedImages
from vitbench.data.preprocess import normalise

SIZES = [(24, 30), (24, 24), (7, 90), (300, 200), (1, 1), (24, 30)]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def resized(image, size_px):
    """TensorFlow 2's bilinear resize by its definition, in float64: (3, S, S)."""

    def neighbours(length):
        position = ((np.arange(size_px) + 0.5) * length / size_px - 0.5).clip(0, length - 1)
        before = np.floor(position).astype(int)
        return before, np.minimum(before + 1, length - 1), position - before

    (above, below, down), (before, after, across) = map(neighbours, image.shape[:2])
    pixels, across = image.astype(np.float64), across[None, :, None]
    lines = [pixels[y][:, before] * (1 - across) + pixels[y][:, after] * across for y in (above, below)]
    down = down[:, None, None]
    return torch.from_numpy(lines[0] * (1 - down) + lines[1] * down).permute(2, 0, 1)


@pytest.mark.parametrize("at_once", [1, 2**18])
def test_a_box_is_resized_as_if_it_had_been_cropped(images, at_once, monkeypatch):
    monkeypatch.setattr(packed_images, "AT_ONCE_CPU", at_once)
    which = np.asarray([3, 0, 5, 2, 3, 1, 4])
    kept = PackedImages(iter(images), torch.device("cpu"), expected=900)
    boxes = inception_boxes(kept.sizes[which], 0, 0, np.arange(7))
    found = kept.resized(which, boxes, 20, cut_first=True)
    assert found.shape == (7, 3, 20, 20)
    ready = normalise(found, (0.5,) * 3, (0.5, 0.4, 0.3))
    assert ready.is_contiguous(memory_format=torch.channels_last)
    for i, (top, left, height, width), out in zip(which, boxes, found, strict=True):
        cut = images[i][top : top + height, left : left + width]
        assert (out - resized(cut, 20)).abs().max() < 1e-4


def test_a_crop_of_a_resized_image_need_not_start_on_a_pixel(images):
    kept = PackedImages(images, torch.device("cpu"))
    places = np.asarray([[0, 0], [1, 4], [3, 2], [4, 4], [2, 2], [0, 4]])
    scale = kept.sizes / 24
    found = kept.resized(range(6), np.column_stack([places * scale, 20 * scale]), 20, cut_first=False)
    for image, (top, left), out in zip(images, places, found, strict=True):
        whole = resized(image, 24)
        assert (out - whole[:, top : top + 20, left : left + 20]).abs().max() < 1e-4


def test_those_that_are_mirrored_are_flipped_and_the_others_are_not(images):
    kept = PackedImages(images, torch.device("cpu"))
    boxes = np.column_stack([np.zeros((6, 2)), kept.sizes])
    mirrored = np.asarray([True, False, True, True, False, False])
    plain, found = (
        kept.resized(range(6), boxes, 20, cut_first=True, mirrored=each) for each in (None, mirrored)
    )
    for one, other, is_flipped in zip(plain, found, mirrored, strict=True):
        assert torch.equal(other, one.flip(2) if is_flipped else one)
