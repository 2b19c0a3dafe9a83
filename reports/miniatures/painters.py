"""Painters: what a category looks like, as a function of numbers in [0, 1) and of nothing else.

Formula-driven pre-training teaches shape by fractals (FractalDB, arXiv 2101.08515) and radial contours (RCDB, arXiv
2206.09132), and texture by dead leaves and waves (arXiv 2106.05963). A painter takes the category's numbers (K,) and those of
N instances (N, K), and returns images (N, 32, 32, 3), float64 in [0, 1]. Float64 throughout, so that a last-bit difference
between two processors changes none of the final bytes in practice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Painter = Callable[[Numbers, Numbers], Numbers]
SIZE = 32
AXIS = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1  # pixel centres in [-1, 1]
TAU = 2 * np.pi


class Dice:
    """Numbers in [0, 1), handed out column by column, so that what is drawn later cannot change what was drawn before."""

    def __init__(self, numbers: Numbers) -> None:
        self._columns: Iterator[Numbers] = iter(np.moveaxis(numbers, -1, 0))

    def between(self, low: float, high: float, *shape: int) -> Numbers:
        """The next numbers, spread over an interval: `shape` after the instances' axis."""
        count = int(np.prod(shape)) if shape else 1
        drawn = np.stack(list(islice(self._columns, count)), axis=-1)
        return low + (high - low) * drawn.reshape((*drawn.shape[:-1], *shape))

    def choice(self, options: int) -> Numbers:
        """The next number as one of `options` whole numbers."""
        return np.floor(self.between(0, options))


def placed(x: Numbers, y: Numbers, dice: Dice, turn: float, room: float) -> tuple[Numbers, Numbers]:
    """Points (N, P) turned by up to `turn` radians, sheared, scaled and moved within `room`."""
    angle, shear = dice.between(-turn, turn)[:, None], dice.between(-0.25, 0.25)[:, None]
    wide, high = dice.between(0.55, 0.95)[:, None], dice.between(0.6, 0.95)[:, None]
    right, down = dice.between(-room, room)[:, None], dice.between(-room, room)[:, None]
    x, y = wide * (x + shear * y), high * y
    return np.cos(angle) * x - np.sin(angle) * y + right, np.sin(angle) * x + np.cos(angle) * y + down


def ink(x: Numbers, y: Numbers, width: Numbers, strength: Numbers) -> Numbers:
    """Drawings (N, 32, 32) in [0, 1] of points (N, P): Gaussian dots of a `width` (N,), which saturate."""
    scale = 1 / (2 * width[:, None, None] ** 2)
    across = np.exp(-((x[:, :, None] - AXIS) ** 2) * scale)
    down = np.exp(-((y[:, :, None] - AXIS) ** 2) * scale)
    return 1 - np.exp(-strength[:, None, None] * np.matmul(down.swapaxes(1, 2), across))


def coloured(drawing: Numbers, dice: Dice) -> Numbers:
    """Ink and ground of random colours, grey for half of the images: colour says nothing of the category."""
    grey = dice.between(0, 1) < 0.5
    light, dark = dice.between(0.55, 1.0), dice.between(0.0, 0.45)
    extreme = dice.between(0, 1) < 0.4  # white on black, or black on white
    light, dark = np.where(extreme, 1.0, light), np.where(extreme, 0.0, dark)
    tint, other = dice.between(-0.35, 0.35, 3), dice.between(-0.35, 0.35, 3)
    above = light[:, None] + np.where(grey[:, None], 0, tint)
    below = dark[:, None] + np.where(grey[:, None], 0, other)
    flipped = (dice.between(0, 1) < 0.4)[:, None]
    slope = dice.between(-0.15, 0.15, 2) * ~extreme[:, None]
    front, back = np.where(flipped, below, above), np.where(flipped, above, below)
    shade = slope[:, 0, None, None] * AXIS[None, :, None] + slope[:, 1, None, None] * AXIS[None, None, :]
    ground = back[:, None, None] + shade[..., None]
    return np.clip(ground + drawing[..., None] * (front[:, None, None] - ground), 0, 1)


def glyphs(category: Numbers, instances: Numbers) -> Numbers:
    """Characters of two to four quadratic Bézier strokes, the later ones beginning on an earlier one or near it."""
    kind, dice = Dice(category), Dice(instances)
    strokes = 2 + int(kind.choice(3))
    points = kind.between(-0.9, 0.9, 4, 3, 2)
    joined = kind.between(0, 1, 4) < 0.6
    for one in range(1, 4):
        if joined[one]:
            points[one, 0] = points[one - 1, int(kind.choice(3))]
    moved = points + dice.between(-1, 1, 4, 3, 2) * dice.between(0.03, 0.2)[:, None, None, None]
    along = np.linspace(0, 1, 18)[:, None]
    bends = ((1 - along) ** 2, 2 * along * (1 - along), along**2)
    curves = sum(moved[:, :strokes, None, one] * bends[one] for one in range(3))
    flat = np.asarray(curves).reshape(len(instances), -1, 2)
    x, y = placed(flat[..., 0], flat[..., 1], dice, 0.35, 0.12)
    width = dice.between(0.03, 0.11)
    return coloured(ink(x, y, width, dice.between(1.2, 4.0)), dice)


def contours(category: Numbers, instances: Numbers) -> Numbers:
    """Closed radial contours, filled, as a line, or as rings: the radius is a sum of harmonics."""
    kind, dice = Dice(category), Dice(instances)
    style = int(kind.choice(4))
    harmonics = np.array([1, 2, 3, 4, 5, 6, 8, 11])
    weight = kind.between(-1, 1, 8) * (kind.between(0, 1, 8) < 0.45) * 0.38 / np.sqrt(harmonics)
    phase, rings = kind.between(0, TAU, 8), kind.between(2, 7)
    square, stretch = kind.between(0, 1) < 0.25, kind.between(0.5, 1.0)
    angle, size = dice.between(-0.5, 0.5)[:, None], dice.between(0.42, 0.8)[:, None]
    right, down = dice.between(-0.2, 0.2)[:, None], dice.between(-0.2, 0.2)[:, None]
    across, along = (part.reshape(1, -1) for part in np.meshgrid(AXIS, AXIS))
    x = (np.cos(angle) * (across - right) + np.sin(angle) * (along - down)) / size
    y = (np.cos(angle) * (along - down) - np.sin(angle) * (across - right)) / size / stretch
    round_ = np.maximum(np.abs(x), np.abs(y)) * 1.15 if square else np.hypot(x, y)
    weights = weight * (1 + dice.between(-0.3, 0.3, 8))
    phases = phase + dice.between(-0.3, 0.3, 8)
    turn = np.arctan2(y, x)[..., None] * harmonics
    radius = 1 + np.where(
        np.abs(weights[:, None]) > 0, weights[:, None] * np.cos(turn + phases[:, None]), 0
    ).sum(-1)
    inside = (radius - round_) / np.maximum(radius, 0.2)
    soft = dice.between(0.03, 0.12)[:, None]
    edge = 1 / (1 + np.exp(-np.clip(inside / soft, -60, 60)))
    line = np.exp(-((inside / dice.between(0.06, 0.16)[:, None]) ** 2))
    waves = edge * (0.5 + 0.5 * np.cos(TAU * rings * inside))
    shown = (edge, line, waves, edge * (0.4 + 0.6 * line))[style]
    return coloured(shown.reshape(-1, SIZE, SIZE), dice)


def fractals(category: Numbers, instances: Numbers) -> Numbers:
    """Iterated function systems of two to four affine maps, all points of one depth at once."""
    kind, dice = Dice(category), Dice(instances)
    maps = 2 + int(kind.choice(3))
    first, second = kind.between(0, TAU, 4), kind.between(0, TAU, 4)
    long, short = kind.between(0.45, 0.85, 4), kind.between(0.15, 0.65, 4) * np.sign(kind.between(-0.4, 1, 4))
    shift = kind.between(-1, 1, 4, 2)
    first, second = first + dice.between(-0.2, 0.2, 4), second + dice.between(-0.2, 0.2, 4)
    long, short = long * (1 + dice.between(-0.1, 0.1, 4)), short * (1 + dice.between(-0.1, 0.1, 4))
    shift = shift + dice.between(-0.1, 0.1, 4, 2)
    x = y = np.zeros((len(instances), 1))
    for _ in range({2: 11, 3: 7, 4: 6}[maps]):
        parts = []
        for one in range(maps):
            c, s, k, t = np.cos(first), np.sin(first), np.cos(second), np.sin(second)
            inner_x = long[:, one, None] * (c[:, one, None] * x + s[:, one, None] * y)
            inner_y = short[:, one, None] * (c[:, one, None] * y - s[:, one, None] * x)
            parts.append((
                k[:, one, None] * inner_x - t[:, one, None] * inner_y + shift[:, one, None, 0],
                t[:, one, None] * inner_x + k[:, one, None] * inner_y + shift[:, one, None, 1],
            ))  # fmt: skip
        x, y = (np.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    x, y = (part - part.mean(1, keepdims=True) for part in (x, y))
    spread = np.maximum(np.sqrt((x**2 + y**2).mean(1, keepdims=True)), 1e-3) * 1.9
    x, y = placed(x / spread, y / spread, dice, 0.35, 0.12)
    column, row = (np.floor((part + 1) / 2 * SIZE).astype(np.int64) for part in (x, y))
    seen = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
    number = np.arange(len(instances))[:, None] * SIZE**2 + row * SIZE + column
    hits = np.bincount(number[seen], minlength=len(instances) * SIZE**2).reshape(-1, SIZE, SIZE)
    return coloured(1 - np.exp(-hits * dice.between(0.15, 0.8)[:, None, None]), dice)


def palette(kind: Dice, colours: int) -> Numbers:
    """Colours (colours, 3) about a common one, as of one material."""
    middle = kind.between(0.1, 0.9) + kind.between(-0.35, 0.35, 3) * kind.between(0, 1) ** 2
    spread, light = kind.between(0.1, 0.7), kind.between(-0.5, 0.5, colours)[:, None]
    return np.clip(middle + spread * (light + 0.4 * kind.between(-0.5, 0.5, colours, 3)), 0, 1)


def lit(images: Numbers, dice: Dice) -> Numbers:
    """The same images under another light: brighter or darker, of another contrast, with a slope."""
    gain, offset = (
        dice.between(0.9, 1.1)[:, None],
        dice.between(-0.02, 0.02, 3) + dice.between(-0.04, 0.04)[:, None],
    )
    slope = dice.between(-0.08, 0.08, 2)
    shade = slope[:, 0, None, None] * AXIS[None, :, None] + slope[:, 1, None, None] * AXIS[None, None, :]
    return np.clip(
        (images - 0.5) * gain[:, None, None] + 0.5 + offset[:, None, None] + shade[..., None], 0, 1
    )


def textures(category: Numbers, instances: Numbers) -> Numbers:
    """Waves of the category's frequencies, directions, sharpness and colours, with phases of the instance."""
    kind, dice = Dice(category), Dice(instances)
    colours = palette(kind, 3)
    low = np.exp(kind.between(np.log(0.3), np.log(4.0)))
    high = low * np.exp(kind.between(0.1, 1.4))
    direction, fan = kind.between(0, np.pi), kind.between(0.05, np.pi / 2) ** 1.5
    sharp, slope = np.exp(kind.between(-0.7, 2.0)), kind.between(0.2, 1.6)
    way = direction + fan * dice.between(-1, 1, 14) + dice.between(-0.15, 0.15)[:, None]
    pace = low * (high / low) ** dice.between(0, 1, 14) * np.exp(dice.between(-0.2, 0.2))[:, None]
    size = pace**-slope
    across = np.pi * pace[..., None] * np.cos(way)[..., None] * AXIS + dice.between(0, TAU, 14)[..., None]
    down = np.pi * pace[..., None] * np.sin(way)[..., None] * AXIS
    field = np.matmul((size[..., None] * np.cos(down)).swapaxes(1, 2), np.cos(across))
    field -= np.matmul((size[..., None] * np.sin(down)).swapaxes(1, 2), np.sin(across))
    field /= np.sqrt((size**2).sum(1) / 2)[:, None, None]
    level = np.tanh(sharp * (field + dice.between(-0.3, 0.3)[:, None, None]))[..., None]
    mixed = (
        colours[1]
        + np.maximum(level, 0) * (colours[2] - colours[1])
        + np.maximum(-level, 0) * (colours[0] - colours[1])
    )
    return lit(mixed, dice)


def leaves(category: Numbers, instances: Numbers) -> Numbers:
    """Dead leaves: shapes of the category's kind, sizes and colours that cover one another."""
    kind, dice = Dice(category), Dice(instances)
    colours = palette(kind, 4)
    norm = (1.0, 2.0, 2.0, 8.0)[int(kind.choice(4))]
    small = np.exp(kind.between(np.log(0.12), np.log(0.6)))
    large, stretch = small * np.exp(kind.between(0.1, 1.2)), kind.between(0.35, 1.0)
    direction, fan, odds = kind.between(0, np.pi), kind.between(0.0, np.pi / 2), kind.between(0.2, 1.0, 4)
    shares = np.cumsum(odds / odds.sum())
    images = np.broadcast_to(colours[0], (len(instances), SIZE, SIZE, 3)).copy()
    for _ in range(22):
        right, down = (dice.between(-1.2, 1.2)[:, None, None] for _ in range(2))
        size = (small * (large / small) ** dice.between(0, 1))[:, None, None]
        angle = (direction + fan * dice.between(-1, 1))[:, None, None]
        across, along = AXIS[None, None, :] - right, AXIS[None, :, None] - down
        x = np.abs(np.cos(angle) * across + np.sin(angle) * along) / size
        y = np.abs(np.cos(angle) * along - np.sin(angle) * across) / size / stretch
        reach = np.maximum(x, y) if norm == 8 else x + y if norm == 1 else np.sqrt(x**2 + y**2)
        mask = np.clip((1 - reach) * size * SIZE / 2 * stretch + 0.5, 0, 1)[..., None]
        which = np.minimum(np.searchsorted(shares, dice.between(0, 1)), 3)
        colour = colours[which] + dice.between(-0.06, 0.06)[:, None]
        images += mask * (colour[:, None, None] - images)
    return lit(np.clip(images, 0, 1), dice)


PAINTERS: dict[str, Painter] = {
    "glyphs": glyphs, "contours": contours, "fractals": fractals, "textures": textures, "leaves": leaves,
}  # fmt: skip
