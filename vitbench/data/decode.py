"""Decoding of image files to RGB uint8, and the error that names those that cannot be decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vitbench.api import Pixels
from vitbench.core.errors import VitbenchError


class BadImageError(VitbenchError):
    """Images that cannot be decoded: reasons by name, out of `total` images."""

    def __init__(self, bad: dict[str, str], total: int) -> None:
        self.bad = bad
        self.total = total
        shown = "; ".join(f"{name} ({reason})" for name, reason in list(bad.items())[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        super().__init__(
            f"{len(bad)} of {total} images cannot be decoded: {shown}{more}. "
            "Replace or remove them, or set `on_bad_image: skip` on the task"
        )

    @classmethod
    def together(cls, errors: list[BadImageError], total: int) -> BadImageError:
        """One error for the images of several."""
        return cls({name: reason for error in errors for name, reason in error.bad.items()}, total)

    def __reduce__(self) -> tuple[type[BadImageError], tuple[dict[str, str], int]]:  # type: ignore[override]
        return type(self), (self.bad, self.total)


def decoded(
    indices: Sequence[int], encoded: Callable[[int], bytes], name: Callable[[int], str], **how: Any
) -> list[Pixels]:
    """Decode the images at these indices, as `decode` does.

    Raises:
        BadImageError: some cannot be read or decoded; it names all of them.
    """
    images: list[Pixels] = []
    bad: dict[str, str] = {}
    for index in indices:
        try:
            images.append(decode(encoded(index), **how))
        except (ValueError, OSError) as error:
            bad[name(index)] = str(error)
    if bad:
        raise BadImageError(bad, len(indices))
    return images


JPEG_MAGIC = b"\xff\xd8\xff"
# Suffixes of all formats that Pillow reads, by format, but those of NOT_OFFERED. Formats with a clear mark come first.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png", ".apng"), "GIF": (".gif",), "BMP": (".bmp",),
    "WEBP": (".webp",), "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"), "MPO": (".mpo",), "DIB": (".dib",), "QOI": (".qoi",),
    "PSD": (".psd",), "DDS": (".dds",), "SGI": (".sgi", ".bw", ".rgb", ".rgba"), "SUN": (".ras",), "ICO": (".ico",),
    "CUR": (".cur",), "ICNS": (".icns",), "PCX": (".pcx",), "DCX": (".dcx",), "XBM": (".xbm",), "XPM": (".xpm",),
    "IM": (".im",), "MSP": (".msp",), "PCD": (".pcd",), "PIXAR": (".pxr",), "FLI": (".fli", ".flc"), "FTEX": (".ftc", ".ftu"),
    "GBR": (".gbr",),
    "BLP": (".blp",), "TGA": (".tga", ".icb", ".vda", ".vst"),
}  # fmt: skip
FORMATS = tuple(name for name in SUFFIXES if name != "MPO")  # which Pillow opens as JPEG
# They start programs (EPS runs Ghostscript), need Windows, have no decoder in Pillow, or are no images.
NOT_OFFERED = ("EPS", "WMF", "PDF", "BUFR", "GRIB", "HDF5", "MPEG", "PALM", "FITS", "IPTC")
LOSSY = ("JPEG", "WEBP", "AVIF", "JPEG2000")
WHITE_INTEGER, WHITE_FLOAT = 65_535, 1.0  # of images of more than 8 bits, unless the task says otherwise
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
APP1, START_OF_SCAN = 0xE1, 0xDA  # markers of JPEG segments: of metadata, and of the image itself


def decode(data: bytes, *, exif_rotate: bool, fast_dct: bool = False, white: float | None = None) -> Pixels:
    """Decode one image to (H, W, 3) uint8 RGB.

    Greyscale and palette images become RGB and alpha is dropped (bit-equal to TensorFlow's `decode_image(channels=3)`, see
    docs/protocols.md#jpeg-decoding). Of images of more than 8 bits, `white` becomes 255 and 0 stays 0, whatever values occur in
    the image: by default 65,535 for integers, of which the upper eight bits are kept, and 1.0 for floats. With `exif_rotate`
    the image is rotated as its EXIF tag says and as every viewer shows it; the reference data sets ignore the tag. JPEGs are
    decoded by libjpeg-turbo, bit-equal to Pillow, or with `fast_dct` bit-equal to TensorFlow's default (up to 13 levels away
    from Pillow).

    Raises:
        ValueError: it cannot be decoded, or is a decompression bomb (over 179 million pixels).
    """
    rotated = exif_rotate and _is_rotated(data)
    turbo = (
        None if rotated or not data.startswith(JPEG_MAGIC) else _turbo(data, fast_dct=fast_dct, strict=True)
    )
    if turbo is not None:
        return turbo
    pixels = _pillow(data, exif_rotate=exif_rotate, white=white)
    # Pillow reads it, so its defects are minor: libjpeg-turbo decodes it too, if it is not strict.
    if fast_dct and not rotated and data.startswith(JPEG_MAGIC):
        lenient = _turbo(data, fast_dct=True, strict=False)
        return pixels if lenient is None else lenient
    return pixels


def _turbo(data: bytes, *, fast_dct: bool, strict: bool) -> Pixels | None:
    """A JPEG decoded by libjpeg-turbo; None for those left to Pillow: CMYK, damaged, decompression bombs."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=strict)
        if colours == "CMYK" or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=fast_dct, strict=strict)
    except ValueError:
        return None
    return pixels


def _pillow(data: bytes, *, exif_rotate: bool, white: float | None) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                upright = ImageOps.exif_transpose(image) if exif_rotate else image
                return _to_rgb(upright, white)
    except Image.DecompressionBombError as error:
        raise ValueError("a decompression bomb") from error
    except Exception as error:  # damaged images raise anything
        reason = str(error).replace("<_io.BytesIO object at ", "").split(" 0x")[0]
        raise ValueError("not an image" if "cannot identify" in reason else reason) from error


def _is_rotated(data: bytes) -> bool:
    """Whether an EXIF tag rotates the image; True if it cannot be read, so that Pillow decides."""
    if data.startswith(JPEG_MAGIC) and not _has_exif(data):
        return False
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return int(image.getexif().get(ORIENTATION, 1)) != 1
    except Exception:  # noqa: BLE001  damaged tags raise anything
        return True


def _has_exif(jpeg: bytes) -> bool:
    """Whether a segment before the image itself is Exif, wherever it stands: XMP and previews may come first."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == START_OF_SCAN:
            return False
        elif marker == APP1 and jpeg[at + 4 : at + 8] == b"Exif":
            return True
        else:
            at += 2 + length
    return b"Exif" in jpeg[:at]


def is_wide(image: Image.Image) -> bool:
    """Whether an image is grey with more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def _to_rgb(image: Image.Image, white: float | None) -> Pixels:
    if is_wide(image):
        return np.repeat(_narrowed(np.asarray(image), white)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _narrowed(wide: NDArray[Any], white: float | None) -> NDArray[np.uint8]:
    """Grey values (H, W) of more than 8 bits as uint8."""
    if white is None and wide.dtype.kind in "iu":
        return (wide.clip(0, WHITE_INTEGER) >> 8).astype(np.uint8)
    scaled = np.nan_to_num(wide.astype(np.float64), nan=0.0) * (255 / (white or WHITE_FLOAT))
    return scaled.clip(0, 255).round().astype(np.uint8)
