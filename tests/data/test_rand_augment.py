"""RandAugment of single images against timm's own, which is given the same random numbers."""

import numpy as np
import pytest
import timm.data.auto_augment
from PIL import Image
from scipy.stats import chisquare, kstest
from timm.data.auto_augment import rand_augment_transform

from tests.making.draws import numpy_with, python_random
from vitbench.data.rand_augment import OPERATIONS, argument, generator_of, named

FILL = (124, 116, 104)


def image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def posterized(original, bits, **_):
    """As Pillow's up to version 12, which newer ones refuse for 0 bits."""
    return Image.fromarray(np.asarray(original) & (256 - 2 ** (8 - bits)))


@pytest.mark.parametrize("name", ["rand-m9-mstd0.5-inc1", "rand-m9-n3-mstd2-inc1", "rand-m15-inc1"])
def test_rand_augment_is_timms(name, monkeypatch):
    ours = named(name)
    hparams = {"translate_const": 14, "img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    monkeypatch.setitem(timm.data.auto_augment.NAME_TO_OP, "PosterizeIncreasing", posterized)
    theirs = rand_augment_transform(name, hparams)
    monkeypatch.undo()
    changed = 0
    for seed in range(150):
        original = Image.fromarray(image(32, 32, seed))
        rng = generator_of(5, 1, seed)
        monkeypatch.setattr(timm.data.auto_augment, "random", python_random(rng))
        monkeypatch.setattr(timm.data.auto_augment, "np", numpy_with(rng))
        expected = np.asarray(theirs(original))
        found = np.asarray(ours(original, FILL, generator_of(5, 1, seed)))
        assert np.array_equal(found, expected), seed
        changed += not np.array_equal(found, np.asarray(original))
    assert changed > 75


def test_operations_and_their_arguments_are_timms(monkeypatch):
    assert tuple(timm.data.auto_augment._RAND_INCREASING_TRANSFORMS) == OPERATIONS
    for name in OPERATIONS:
        level_of = timm.data.auto_augment.LEVEL_TO_ARG[name]
        for level in np.linspace(0, 10, 41):
            monkeypatch.setattr(timm.data.auto_augment, "random", python_random(np.random.default_rng(3)))
            expected = level_of(level, {}) if level_of else ()
            assert argument(name, level, np.random.default_rng(3)) == expected


def test_what_is_left_out_is_never_applied():
    without = tuple(name for name in OPERATIONS if name != "Invert")
    only_inverting = named("rand-m9-n1-inc1").__class__(9, 0, 1, without)
    original = image(16, 16)
    found = {
        only_inverting(Image.fromarray(original), FILL, generator_of(0, 0, seed)).tobytes()
        for seed in range(40)
    }
    assert found == {original.tobytes(), (255 - original).tobytes()}


def test_generators_of_images_are_independent_and_repeatable():
    numbers = [generator_of(0, step, example).random() for step in range(30) for example in range(100)]
    assert len(set(numbers)) == 3000
    assert kstest(numbers, "uniform").pvalue > 0.001
    counts = np.bincount([int(generator_of(2, 0, i).integers(0, 15)) for i in range(3000)], minlength=15)
    assert chisquare(counts).pvalue > 0.001
    assert generator_of(0, 4, 7).random() == generator_of(0, 4, 7).random()
    assert generator_of(0, 4, 7).random() != generator_of(1, 4, 7).random()
