"""Images of more than 8 bits in a folder: how many there are, and whether the value taken for white can be right."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitbench.core.files import write_atomically
from vitbench.core.settings import cache_dir
from vitbench.data.decode import FORMATS, SUFFIXES, WHITE_FLOAT, WHITE_INTEGER, is_wide
from vitbench.data.image_folder import FolderSource

MAY_BE_WIDE = frozenset(
    suffix for name in ("PNG", "TIFF", "PPM", "JPEG2000", "IM") for suffix in SUFFIXES[name]
)
LOOKED_AT = 64  # images of which the highest value is found
DARK = 16  # white is implausible if no image has a sixteenth of it: four bits would be empty


class Wide(NamedTuple):
    """What was found in a folder: how many wide images of integers and of floats, and the highest value in a sample of each."""

    integers: int
    highest_integer: float
    floats: int
    highest_float: float


def remark_on(source: FolderSource) -> str:
    """What a reader must know of a source's images of more than 8 bits; '' if it has none."""
    found = _found(source)
    parts = [
        _described(found.integers, "integers", found.highest_integer, source.white or WHITE_INTEGER),
        _described(found.floats, "floats", found.highest_float, source.white or WHITE_FLOAT),
    ]
    return "; ".join(filter(None, parts))


def _described(count: int, kind: str, highest: float, white: float) -> str:
    if not count:
        return ""
    text = f"{count:,} grey images of {kind} of more than 8 bits: {white:g} is white"
    if highest > white:
        return f"{text}, but values go up to {highest:g}, which is cut off: state `white`"
    if highest * DARK < white:
        return (
            f"{text}, but no value exceeds {highest:g}: they are almost black; state `white` if that is wrong"
        )
    return text


def _found(source: FolderSource) -> Wide:
    files = [file for file in source.files if Path(file).suffix.lower() in MAY_BE_WIDE]
    if not files:
        return Wide(0, 0, 0, 0)
    known = cache_dir() / "wide-images-1" / f"{source.fingerprint}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Wide(*json.loads(known.read_text(encoding="utf-8")))
    with ThreadPoolExecutor() as pool:
        modes = list(pool.map(lambda file: _mode(source.root / file), files))
    kinds = {
        kind: [file for file, mode in zip(files, modes, strict=True) if mode.startswith(kind)]
        for kind in "IF"
    }
    highest = {kind: _highest(source.root, chosen) for kind, chosen in kinds.items()}
    found = Wide(len(kinds["I"]), highest["I"], len(kinds["F"]), highest["F"])
    with contextlib.suppress(OSError):  # a full disk: they are looked at again next time
        write_atomically(known, json.dumps(found))
    return found


def _mode(path: Path) -> str:
    """The mode of an image of more than 8 bits; '' of all others, and of those that cannot be read."""
    with (
        contextlib.suppress(Exception),
        Image.open(path, formats=FORMATS) as image,
    ):  # damaged ones are reported elsewhere
        return image.mode if is_wide(image) else ""
    return ""


def _highest(root: Path, files: list[str]) -> float:
    """The highest value in some of these images, spread evenly over them."""
    chosen = (
        files if len(files) <= LOOKED_AT else [files[i * len(files) // LOOKED_AT] for i in range(LOOKED_AT)]
    )
    highest = 0.0
    for file in chosen:
        with contextlib.suppress(Exception), Image.open(root / file, formats=FORMATS) as image:
            highest = max(highest, float(np.nanmax(np.asarray(image), initial=0)))
    return highest
