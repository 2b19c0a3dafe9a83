"""Every resize kernel against the output of TensorFlow or Pillow."""

import numpy as np
import pytest
import torch

from tests.making import paths
from vitbench.data import resize
from vitbench.data.preprocess import Preprocess, apply

GOLDEN = np.load(paths.GOLDEN / "preprocess.npz")
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
        found = back(
            apply(
                [GOLDEN[f"{image}/image"]], Preprocess(80, "shorter_side", "area", crop, "truncate", "fast")
            )
        )
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pil_equals_pillow(interpolation):
    from PIL import Image

    image = GOLDEN["1/image"]
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    wanted = np.asarray(Image.fromarray(image).resize((50, 70), resample)).astype(int)
    found = back(resize.pil(batch("1"), (70, 50), interpolation))
    assert np.abs(found - wanted).max() <= {"bilinear": 1, "bicubic": 2}[interpolation]
    assert (found == wanted).mean() > 0.99


def test_resizing_to_the_same_size_changes_nothing():
    image = batch("2")
    for kernel in resize.KERNELS.values():
        assert torch.equal(kernel(image, tuple(image.shape[2:])), image.float())
