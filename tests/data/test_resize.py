"""Every resize kernel against the output of TensorFlow or Pillow."""

import numpy as np
import pytest
import torch

from tests.making import area_images, paths
from vitbench.data import resize
from vitbench.data.preprocess import Preprocess, apply

GOLDEN = np.load(paths.GOLDEN / "preprocess.npz")
AREA = np.load(paths.GOLDEN / "resize_area.npz")
IMAGES = sorted({name.split("/")[0] for name in GOLDEN.files})


def batch(image):
    return torch.from_numpy(GOLDEN[f"{image}/image"]).permute(2, 0, 1)[None]


def back(images):
    return images[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("kernel", ["tf2_bilinear", "tf1_bilinear"])
def test_bilinear(kernel, image):
    found = back(resize.KERNELS[kernel](batch(image), 64))
    wanted = GOLDEN[f"{image}/{kernel}_64"].astype(np.float32)
    assert np.abs(found - wanted).max() <= 1e-3


@pytest.mark.parametrize("image", IMAGES)
def test_uint8_is_truncated_not_rounded(image):
    how = Preprocess(64, "square", "tf2_bilinear", 64, "truncate", "fast")
    found = apply([GOLDEN[f"{image}/image"]], how)
    assert found.dtype == torch.uint8
    assert np.array_equal(back(found), GOLDEN[f"{image}/uint8_resize_64"])


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(("crop", "name"), [(80, ""), (64, "_central_crop_64")])
def test_area_resize_of_the_shorter_side_and_centre_crop(image, crop, name):
    wanted = GOLDEN[f"{image}/uint8_resize_small_area_80{name}"]
    if not name:
        found = back(resize.area(batch(image), wanted.shape[:2])).clip(0, 255).astype(np.uint8)
    else:
        how = Preprocess(80, "shorter_side", "area", crop, "truncate", "fast")
        found = back(apply([GOLDEN[f"{image}/image"]], how))
    assert np.array_equal(found, wanted)


def of_formula(sizes):
    height, width = map(int, sizes.split("x"))
    return area_images.image(height, width)


@pytest.mark.parametrize("name", [name for name in AREA.files if name.startswith("float")])
def test_area_equals_tensorflow_bit_by_bit(name):
    _, sizes, _ = name.split("/")
    image = torch.from_numpy(of_formula(sizes)).permute(2, 0, 1)[None]
    wanted = AREA[name]
    assert np.array_equal(back(resize.area(image, wanted.shape[:2])).view(np.int32), wanted.view(np.int32))
    rows, columns = (range(side // 3, side // 3 + 2) for side in wanted.shape[:2])
    rows, columns = (
        range(part.start, min(part.stop, side))
        for part, side in zip((rows, columns), wanted.shape, strict=False)
    )
    part = back(resize.area(image, wanted.shape[:2], (rows, columns)))
    assert np.array_equal(part, wanted[rows.start : rows.stop, columns.start : columns.stop])


@pytest.mark.parametrize("name", [name for name in AREA.files if name.startswith("small")])
def test_resize_small_equals_big_vision_to_the_last_level(name):
    _, sizes, smaller = name.split("/")
    wanted = AREA[name]
    crop = min(wanted.shape[:2])
    how = Preprocess(int(smaller), "shorter_side", "area", crop, "truncate", "fast")
    found = back(apply([of_formula(sizes)], how))
    top, left = ((side - crop) // 2 for side in wanted.shape[:2])  # BV:pp/ops_image.py, get_central_crop
    assert np.array_equal(found, wanted[top : top + crop, left : left + crop])


def test_most_of_the_golden_sums_are_exact_only_in_tensorflows_order():
    """That the golden images can tell: the exact mean differs on several per cent of the values, once truncated."""
    apart = []
    for name in (name for name in AREA.files if name.startswith("small")):
        image = torch.from_numpy(of_formula(name.split("/")[1])).permute(2, 0, 1)[None].double()
        weights = [
            exact_weights(n, size) for n, size in zip(image.shape[2:], AREA[name].shape[:2], strict=True)
        ]
        exact = torch.einsum("hy,bcyx,wx->bchw", weights[0], image, weights[1])
        apart.append((back((exact + 1e-9).floor()) != AREA[name]).mean())
    assert 0.01 < np.mean(apart) < 0.2


def exact_weights(length, size):
    scale = length / size
    start = torch.arange(size, dtype=torch.float64)[:, None] * scale
    pixel = torch.arange(length, dtype=torch.float64)
    return (torch.minimum(start + scale, pixel + 1) - torch.maximum(start, pixel)).clamp(min=0) / scale


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pil_equals_pillow(interpolation):
    from PIL import Image

    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    wanted = np.asarray(Image.fromarray(GOLDEN["1/image"]).resize((50, 70), resample))
    assert np.array_equal(back(resize.pil(batch("1"), (70, 50), interpolation)), wanted)
    window = (range(3, 40), range(11, 50))
    part = back(resize.pil(batch("1"), (70, 50), interpolation, window))
    assert np.array_equal(part, wanted[3:40, 11:50])


def test_resizing_to_the_same_size_changes_nothing():
    image = batch("2")
    for kernel in resize.KERNELS.values():
        assert torch.equal(kernel(image, tuple(image.shape[2:])), image.float())
