"""Decoding is bit-equal to Pillow's, whichever library does it; the fast DCT is another thing and close."""

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


def jpeg(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **how)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_as_pillow_decodes_them(quality, subsampling, mode, progressive):
    how = {"quality": quality, "progressive": progressive}
    if mode == "RGB":
        how["subsampling"] = subsampling
    data = jpeg(Image.fromarray(SMOOTH).convert(mode), **how)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data, exif_rotate=False), wanted)


def test_the_fast_dct_is_near_and_different():
    data = jpeg(Image.fromarray(SMOOTH), quality=75)
    accurate, fast = (decode(data, exif_rotate=False, fast_dct=fast).astype(int) for fast in (False, True))
    assert 0 < np.abs(accurate - fast).max() <= 13  # facts/data_layer.md 4d
    assert np.abs(accurate - fast).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_is_followed_or_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(Image.fromarray(SMOOTH), exif=exif)
    plain = decode(data, exif_rotate=False)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert plain.shape == SMOOTH.shape
    assert np.array_equal(decode(data, exif_rotate=True), np.rot90(plain, turns))


@pytest.mark.parametrize("cut", [10, 300, -200])
def test_a_torn_jpeg_is_no_image(cut):
    data = jpeg(Image.fromarray(SMOOTH))[:cut]
    with pytest.raises(ValueError, match=r"."):
        decode(data, exif_rotate=False)


def test_a_bomb_is_refused_before_it_is_decoded():
    data = bytearray(jpeg(Image.fromarray(SMOOTH)))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = b"\xff\x00\xff\x00"  # it says that it is 65,280 x 65,280
    with pytest.raises(ValueError, match="bomb"):
        decode(bytes(data), exif_rotate=False)


def test_a_jpeg_with_a_mere_blemish_is_decoded_by_the_dct_that_was_asked_for():
    data = jpeg(Image.fromarray(SMOOTH), quality=75)
    end = data.rindex(b"\xff\xd9")
    blemished = (
        data[:end] + b"\x00\x00" + data[end:]
    )  # extraneous bytes before the last marker: libjpeg warns
    with pytest.raises(ValueError, match=r"."):
        simplejpeg.decode_jpeg(blemished, "RGB")
    for fast in (False, True):
        wanted = decode(data, exif_rotate=False, fast_dct=fast)
        assert np.array_equal(decode(blemished, exif_rotate=False, fast_dct=fast), wanted)
