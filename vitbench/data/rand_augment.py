"""timm's RandAugment, `rand-m9-mstd0.5-inc1` and its like: its own operations on images, with explicit random numbers.

timm draws from Python's and NumPy's global generators, which all threads share. Here each image has a generator of its own,
and draws in timm's order (TM:data/auto_augment.py, `RandAugment`, `AugmentOp`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitbench.core.seeding import derived_seed

if TYPE_CHECKING:
    from PIL import Image

NAME = re.compile(r"rand-m(\d+)(?:-n([1-9]))?(?:-mstd(\d+(?:\.\d+)?))?-inc1")
PROBABILITY = 0.5  # of each of the operations drawn
LEVELS = 10.0  # the highest level, and the unit of magnitudes
# The operations whose effect grows with the level (`_RAND_INCREASING_TRANSFORMS`), in timm's order.
OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd",
    "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "ShearX", "ShearY",
    "TranslateXRel", "TranslateYRel",
)  # fmt: skip
# The largest argument of those that go either way: degrees, slants, fractions of a side.
EITHER_WAY = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}
ENHANCING = ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")
TURNING = ("Rotate", "ShearX", "ShearY")  # what changes the orientation of things
MOVING = ("TranslateXRel", "TranslateYRel")


@dataclass(frozen=True)
class RandAugment:
    """`operations` drawn with replacement, each applied half of the time, at a normally distributed magnitude.

    `without` are operations that are not drawn.
    """

    magnitude: float
    deviation: float = 0.0
    operations: int = 2
    without: tuple[str, ...] = ()

    def __call__(
        self, image: Image.Image, fill: tuple[int, int, int], rng: np.random.Generator
    ) -> Image.Image:
        """The image after what is drawn; `fill` is the colour of what comes in from outside of it."""
        known = [name for name in OPERATIONS if name not in self.without]
        for index in rng.integers(0, len(known), self.operations):
            if rng.random() > PROBABILITY:
                continue
            drawn = rng.normal(self.magnitude, self.deviation) if self.deviation else self.magnitude
            arguments = argument(known[index], max(0.0, min(drawn, LEVELS)), rng)
            image = _applied(image, known[index], arguments, fill)
        return image


def generator_of(seed: int, step: int, example: int) -> np.random.Generator:
    """The generator of one image in one step."""
    return np.random.default_rng([derived_seed(seed, "image"), step, example])


def fill_of(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """The colour of what comes in from outside of an image: the mean (in [0, 1]) (TM:data/transforms_factory.py)."""
    red, green, blue = (min(255, round(255 * part)) for part in mean)
    return red, green, blue


def named(name: str) -> RandAugment:
    """The one of timm's name, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ValueError: the name is none, or lacks `-inc1`.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"unknown {name!r}: such as rand-m9-mstd0.5-inc1, timm's name for it, with -inc1")
    magnitude, operations, deviation = found.groups()
    return RandAugment(float(magnitude), float(deviation or 0), int(operations or 2))


def argument(name: str, level: float, rng: np.random.Generator) -> tuple[float, ...]:
    """What an operation is called with at a level from 0 to 10; the sign of those that go either way is drawn."""
    part = level / LEVELS
    if name in EITHER_WAY:
        return (_either_way(part * EITHER_WAY[name], rng),)
    if name in ENHANCING:  # 1 changes nothing
        return (max(0.1, 1.0 + _either_way(part * 0.9, rng)),)
    if name == "PosterizeIncreasing":  # bits to keep
        return (4 - int(part * 4),)
    if name == "SolarizeIncreasing":  # the lowest value that is inverted
        return (256 - min(256, int(part * 256)),)
    if name == "SolarizeAdd":
        return (min(128, int(part * 110)),)
    return ()


def _either_way(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() > 0.5 else value


def _applied(
    image: Image.Image, name: str, arguments: tuple[float, ...], fill: tuple[int, int, int]
) -> Image.Image:
    from PIL.Image import Resampling, new
    from timm.data.auto_augment import NAME_TO_OP

    if (
        name == "PosterizeIncreasing" and not arguments[0]
    ):  # level 10: black until Pillow 13, which refuses it
        return new("RGB", image.size)
    operation: Any = NAME_TO_OP[name]
    found: Image.Image = operation(image, *arguments, fillcolor=fill, resample=Resampling.BICUBIC)
    return found
