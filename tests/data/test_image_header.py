import io

import numpy as np
import pytest
from PIL import Image

from vitbench.data.decode import decode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_rgb_comes_back():
    assert np.array_equal(decode(encoded(Image.fromarray(RGB)), exif_rotate=True), RGB)


def test_grey_becomes_three_equal_channels():
    grey = Image.fromarray(RGB[..., 0])
    assert np.array_equal(decode(encoded(grey), exif_rotate=True), np.repeat(RGB[..., :1], 3, axis=2))


def test_alpha_is_dropped_even_where_it_is_transparent():
    alpha = np.zeros((6, 9, 1), np.uint8)
    image = Image.fromarray(np.concatenate([RGB, alpha], axis=2))
    assert np.array_equal(decode(encoded(image), exif_rotate=True), RGB)


def test_palette_colours_are_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0] + [0] * 762)
    image.putpixel((1, 0), 1)
    assert decode(encoded(image), exif_rotate=True).tolist() == [[[10, 20, 30], [200, 100, 0]]]


def test_sixteen_bits_keep_the_upper_eight():
    deep = (RGB[..., 0].astype(np.uint16) << 8) | 7
    assert np.array_equal(decode(encoded(Image.fromarray(deep)), exif_rotate=True)[..., 1], RGB[..., 0])


def test_one_bit():
    assert decode(encoded(Image.new("1", (2, 2), 1)), exif_rotate=True).tolist() == [[[255] * 3] * 2] * 2


def test_a_camera_s_rotation_is_followed_only_if_asked():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    data = encoded(Image.fromarray(RGB), exif=exif)
    assert np.array_equal(decode(data, exif_rotate=False), RGB)
    assert np.array_equal(decode(data, exif_rotate=True), np.rot90(RGB, -1))


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_other_formats(form):
    assert decode(encoded(Image.fromarray(RGB), form), exif_rotate=True).shape == RGB.shape


@pytest.mark.parametrize("data", [b"", b"hello", encoded(Image.fromarray(RGB))[:40], b"<html>404</html>"])
def test_what_is_no_image_says_so(data):
    with pytest.raises(ValueError, match=r".+"):
        decode(data, exif_rotate=True)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="bomb"):
        decode(encoded(Image.fromarray(RGB)), exif_rotate=True)
