"""Random resized crops are torchvision's and MAE's, given the same draws; the pixels are Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from tests.making.heads import golden
from vitbench.data import resized_crop as crops

SIZES = np.random.default_rng(0).integers(1, 300, (60, 2)).astype(np.int64)
SIZES[:6] = [[1, 1], [1, 200], [200, 1], [2, 3], [30, 300], [300, 30]]


@pytest.fixture
def draws(monkeypatch):
    """Torch's random numbers are those of the list, one after another."""
    left = []
    monkeypatch.setattr(
        torch.Tensor,
        "uniform_",
        lambda self, a, b: self.fill_(float(a) + (float(b) - float(a)) * left.pop(0)),
    )
    monkeypatch.setattr(
        torch, "randint", lambda low, high, size: torch.tensor([int(left.pop(0) * (high - low)) + low])
    )
    return left


def test_boxes_are_torchvisions_given_its_draws(draws):
    torch.set_default_dtype(torch.float64)
    try:
        found = crops.boxes("random_resized", SIZES, 3, 5, np.arange(60))
        for row, (height, width) in enumerate(SIZES):
            ratio = (3 / 4, 4 / 3)
            own = [
                crops.uniforms(3, 5 * 10 + attempt, np.array([row]), 4, "crop")[0] for attempt in range(10)
            ]
            wanted = None
            for attempt in own:  # the reference draws a position only where the box fits
                draws[:] = [*attempt[:2], *attempt[2:], *([0.9, 0.0] * 40)]
                got = transforms.RandomResizedCrop.get_params(
                    torch.empty(3, height, width), scale=(0.08, 1.0), ratio=ratio
                )
                if len(draws) == 80:  # it took the first attempt
                    wanted = got
                    break
            if wanted is None:  # all ten fail: a central crop, whatever was drawn
                draws[:] = [1.0, 1.0] * 10 if width < height else [1.0, 0.0] * 10
                wanted = transforms.RandomResizedCrop.get_params(
                    torch.empty(3, height, width), scale=(50.0, 50.0), ratio=ratio
                )
            assert tuple(found[row]) == tuple(wanted), (height, width)
    finally:
        torch.set_default_dtype(torch.float32)


def test_maes_boxes_are_its_own_given_the_same_draws(monkeypatch):
    made = golden()
    monkeypatch.setattr(crops, "uniforms", lambda *_: made["crop_draws"])
    sizes = made["crop_sizes"].astype(np.int64)
    assert np.array_equal(crops.boxes("random_resized_once", sizes, 0, 0, np.arange(40)), made["crop_boxes"])


@pytest.mark.parametrize("kind", crops.KINDS)
def test_boxes_lie_in_the_image_and_depend_on_the_example_alone(kind):
    boxes = crops.boxes(kind, SIZES, 0, 0, np.arange(60))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= SIZES).all()
    some = [40, 7, 12]
    assert np.array_equal(crops.boxes(kind, SIZES[some], 0, 0, np.array(some)), boxes[some])
    assert not np.array_equal(crops.boxes(kind, SIZES, 0, 1, np.arange(60)), boxes)


def test_areas_and_ratios_are_spread_as_they_should_be():
    sizes = np.full((20_000, 2), 1000)
    boxes = crops.boxes("random_resized_once", sizes, 0, 0, np.arange(20_000))
    ratio = boxes[:, 3] / boxes[:, 2]
    assert np.mean(np.log(ratio)) == pytest.approx(0, abs=0.01)
    assert ratio.min() == pytest.approx(3 / 4, rel=0.05)
    assert np.mean(boxes[:, 2] * boxes[:, 3]) / 1e6 == pytest.approx(0.54, abs=0.015)


def test_pixels_are_torchvisions():
    image = np.random.default_rng(1).integers(0, 256, (37, 52, 3), dtype=np.uint8)
    for box in [(0, 0, 37, 52), (3, 5, 11, 40), (36, 51, 1, 1)]:
        wanted = resized_crop(Image.fromarray(image), *box, [24, 24], InterpolationMode.BICUBIC)
        assert np.array_equal(crops.cut(image, box, 24), np.asarray(wanted))
