"""Encoded bytes to RGB uint8, and the error that names an image which is none."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from vitbench.api import Pixels
from vitbench.core.errors import VitbenchError


class BadImageError(VitbenchError):
    """Images that cannot be decoded: their names with the reasons, out of how many."""

    def __init__(self, bad: dict[str, str], total: int) -> None:
        self.bad = bad
        self.total = total
        shown = "; ".join(f"{name} ({reason})" for name, reason in list(bad.items())[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        super().__init__(
            f"{len(bad)} of {total} images cannot be decoded: {shown}{more}. "
            "Mend or remove them, or set `on_bad_image: skip` on the task"
        )

    @classmethod
    def together(cls, errors: list[BadImageError], total: int) -> BadImageError:
        """One error for all that several have named."""
        return cls({name: reason for error in errors for name, reason in error.bad.items()}, total)

    def __reduce__(self) -> tuple[type[BadImageError], tuple[dict[str, str], int]]:  # type: ignore[override]
        return type(self), (self.bad, self.total)


JPEG_MAGIC = b"\xff\xd8\xff"
# What Pillow may be asked to read: of its other formats some start programs (EPS runs Ghostscript).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


def decode(data: bytes, *, exif_rotate: bool, fast_dct: bool = False) -> Pixels:
    """One image (H, W, 3) uint8 RGB.

    Grey and palette images become RGB, alpha is dropped (bit-equal to TensorFlow's `decode_image(channels=3)`, see
    facts/data_layer.md 4d), 16-bit ones keep their upper eight bits. With `exif_rotate` the image is turned as its camera
    says and as every viewer shows it; reference data sets ignore that tag. JPEGs are decoded by libjpeg-turbo, bit-equal to
    Pillow, or with `fast_dct` to TensorFlow's default (up to 13 levels away from it).

    Raises:
        ValueError: it cannot be decoded, or is a decompression bomb (over 179 million pixels).
    """
    turned = exif_rotate and _is_turned(data)
    turbo = (
        None if turned or not data.startswith(JPEG_MAGIC) else _turbo(data, fast_dct=fast_dct, strict=True)
    )
    if turbo is not None:
        return turbo
    pixels = _pillow(data, exif_rotate=exif_rotate)
    if (
        fast_dct and not turned and data.startswith(JPEG_MAGIC)
    ):  # Pillow can read it, so no more than a warning was wrong
        lenient = _turbo(data, fast_dct=True, strict=False)
        return pixels if lenient is None else lenient
    return pixels


def _turbo(data: bytes, *, fast_dct: bool, strict: bool) -> Pixels | None:
    """A JPEG by libjpeg-turbo; None where Pillow decides: CMYK, damaged, a bomb and the like."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=strict)
        if colours == "CMYK" or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=fast_dct, strict=strict)
    except ValueError:
        return None
    return pixels


def _pillow(data: bytes, *, exif_rotate: bool) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                upright = ImageOps.exif_transpose(image) if exif_rotate else image
                return _to_rgb(upright)
    except Image.DecompressionBombError as error:
        raise ValueError("a decompression bomb") from error
    except Exception as error:  # damaged images raise anything
        reason = str(error).replace("<_io.BytesIO object at ", "").split(" 0x")[0]
        raise ValueError("not an image" if "cannot identify" in reason else reason) from error


def _is_turned(data: bytes) -> bool:
    """Whether a JPEG says that it was taken sideways; one that cannot be opened is left to the decoder."""
    if b"Exif" not in data[:4096]:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return int(image.getexif().get(ORIENTATION, 1)) != 1
    except Exception:  # noqa: BLE001  damaged tags raise anything
        return True


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        wide = np.asarray(image)
        grey = (wide >> 8 if wide.max(initial=0) > 255 else wide).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
