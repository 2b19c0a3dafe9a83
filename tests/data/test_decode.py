"""Decoding is bit-equal to Pillow's, whichever library does it, and the fast DCT close to it; modes, rotation and bad data."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from vitbench.data.decode import decode

RNG = np.random.default_rng(2)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((173, 131), Image.BICUBIC)
)


RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(image, **options):
    return encoded(image, "JPEG", **options)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_bit_equal_to_pillows(quality, subsampling, mode, progressive):
    how = {"quality": quality, "progressive": progressive}
    if mode == "RGB":
        how["subsampling"] = subsampling
    data = jpeg(Image.fromarray(SMOOTH).convert(mode), **how)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data, exif_rotate=False), wanted)


def test_the_fast_dct_differs_slightly():
    data = jpeg(Image.fromarray(SMOOTH), quality=75)
    accurate, fast = (decode(data, exif_rotate=False, fast_dct=fast).astype(int) for fast in (False, True))
    assert 0 < np.abs(accurate - fast).max() <= 13  # docs/protocols.md#jpeg-decoding
    assert np.abs(accurate - fast).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_exif_rotation_of_a_jpeg_is_applied_only_if_asked(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(Image.fromarray(SMOOTH), exif=exif)
    plain = decode(data, exif_rotate=False)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert plain.shape == SMOOTH.shape
    assert np.array_equal(decode(data, exif_rotate=True), np.rot90(plain, turns))


@pytest.mark.parametrize("cut", [10, 300, -200])
def test_a_truncated_jpeg_is_an_error(cut):
    data = jpeg(Image.fromarray(SMOOTH))[:cut]
    with pytest.raises(ValueError, match=r"."):
        decode(data, exif_rotate=False)


def test_a_jpeg_bomb_is_refused_before_it_is_decoded():
    data = bytearray(jpeg(Image.fromarray(SMOOTH)))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = b"\xff\x00\xff\x00"  # the stated size: 65,280 x 65,280
    with pytest.raises(ValueError, match="bomb"):
        decode(bytes(data), exif_rotate=False)


def test_a_jpeg_with_a_minor_defect_is_decoded_with_the_dct_asked_for():
    data = jpeg(Image.fromarray(SMOOTH), quality=75)
    end = data.rindex(b"\xff\xd9")
    defective = data[:end] + b"\x00\x00" + data[end:]  # extraneous bytes, of which libjpeg warns
    with pytest.raises(ValueError, match=r"."):
        simplejpeg.decode_jpeg(defective, "RGB")
    for fast in (False, True):
        wanted = decode(data, exif_rotate=False, fast_dct=fast)
        assert np.array_equal(decode(defective, exif_rotate=False, fast_dct=fast), wanted)


def test_rgb_is_unchanged():
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


def test_one_bit_images_become_black_and_white():
    assert decode(encoded(Image.new("1", (2, 2), 1)), exif_rotate=True).tolist() == [[[255] * 3] * 2] * 2


def test_the_exif_rotation_of_a_png_is_applied_only_if_asked():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    data = encoded(Image.fromarray(RGB), exif=exif)
    assert np.array_equal(decode(data, exif_rotate=False), RGB)
    assert np.array_equal(decode(data, exif_rotate=True), np.rot90(RGB, -1))


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_other_formats(form):
    assert decode(encoded(Image.fromarray(RGB), form), exif_rotate=True).shape == RGB.shape


@pytest.mark.parametrize("data", [b"", b"hello", encoded(Image.fromarray(RGB))[:40], b"<html>404</html>"])
def test_data_that_is_not_an_image_is_an_error(data):
    with pytest.raises(ValueError, match=r".+"):
        decode(data, exif_rotate=True)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="bomb"):
        decode(encoded(Image.fromarray(RGB)), exif_rotate=True)


@pytest.mark.parametrize("before", [0, 5_000, 60_000])
def test_exif_turns_an_image_wherever_it_stands_in_the_file(before):
    """As after XMP: other segments may come first."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(buffer, "JPEG", exif=exif)
    data = buffer.getvalue()
    segment = (
        b"\xff\xe1" + (before + 2).to_bytes(2, "big") + b"http://ns.adobe.com/xap/1.0/".ljust(before, b" ")
        if before
        else b""
    )
    moved = data[:2] + segment + data[2:]
    assert decode(moved, exif_rotate=True).shape == (64, 48, 3)
    assert decode(moved, exif_rotate=False).shape == (48, 64, 3)


def test_the_word_exif_inside_an_image_turns_nothing():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", comment=b"Exif\0\0 not really")
    assert decode(buffer.getvalue(), exif_rotate=True).shape == (48, 64, 3)
