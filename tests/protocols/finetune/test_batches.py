"""Tests of training batches: the order of examples, crops, flips and MixUp."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitbench.api import ImageSource, Split
from vitbench.core.errors import UsageError
from vitbench.data.preprocess import apply, preset
from vitbench.data.resize import KERNELS
from vitbench.protocols.finetune import batches
from vitbench.protocols.finetune.batches import Order, TrainingImages
from vitbench.protocols.finetune.distributed import ALONE, Process
from vitbench.protocols.recipes import Recipe

PLAIN = Recipe(steps=9, warmup_steps=0, base_lr=0.1, batch_size=6)


class Photographs(ImageSource):
    """Random images, of one size or of many."""

    fingerprint = "photographs"

    def __init__(self, count, sizes):
        rng = np.random.default_rng(count)
        self.images = [
            rng.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(count)
        ]

    def __len__(self):
        return len(self.images)

    def read(self, indices, *, fast_dct=False):
        return [self.images[i] for i in indices]

    def name(self, index):
        return str(index)


ONE_SIZE, MANY_SIZES = [(40, 40)], [(40, 56), (33, 40), (64, 48)]


def made(
    recipe,
    sizes=MANY_SIZES,
    *,
    flip=True,
    crop=True,
    resident=True,
    monkeypatch=None,
    process=ALONE,
):
    train, val = Photographs(13, sizes), Photographs(4, sizes)
    splits = [Split(s, np.arange(len(s)), np.arange(len(s)) + 100 * i) for i, s in enumerate((train, val))]
    data = SimpleNamespace(
        device="cpu", seed=5, flip=flip, crop=crop, normalise=lambda images: images,
        pixels=lambda split, size_px: apply(split.source.read(split.indices), preset("squash", size_px)),
    )  # fmt: skip
    if not resident:
        monkeypatch.setattr(batches, "RESIDENT_BYTES", 0)
    return TrainingImages(data, splits, recipe, 24, 200, process), train.images + val.images


def test_every_epoch_has_every_example_once_and_the_order_depends_on_the_seed_only():
    order = Order(17, 6, seed=3)
    shown = np.concatenate([order(step) for step in range(17)])
    assert all(sorted(shown[i : i + 17]) == list(range(17)) for i in range(0, len(shown), 17))
    assert not np.array_equal(shown[:17], shown[17:34])
    assert np.array_equal(Order(17, 6, seed=3)(11), order(11))
    assert not np.array_equal(Order(17, 6, seed=4)(0), order(0))


@pytest.mark.parametrize("sizes", [ONE_SIZE, MANY_SIZES], ids=["one-size", "many-sizes"])
def test_random_crops_are_cut_from_the_resized_image(sizes):
    shown, originals = made(replace(PLAIN, crop="random", resize_px=30, size_px=24), sizes)
    corners = set()
    for step in range(4):
        images, labels = shown.batch(step)
        for crop, label in zip(images, labels, strict=True):
            image = originals[int(label) if label < 100 else int(label) - 100 + 13]
            resized = KERNELS["tf2_bilinear"](torch.from_numpy(image)[None].permute(0, 3, 1, 2), (30, 30))[0]
            off = {
                (top, left): (resized[:, top : top + 24, left : left + 24] - crop).abs().max().item()
                for top in range(7)
                for left in range(7)
            }
            corner = min(off, key=off.get)
            assert off[corner] < 0.02  # of 255
            corners.add(corner)
    assert len(corners) > 10
    assert {0, 6} <= {top for top, _ in corners}


@pytest.mark.parametrize("crop", ["none", "random", "inception"])
@pytest.mark.parametrize("sizes", [ONE_SIZE, MANY_SIZES], ids=["one-size", "many-sizes"])
def test_images_that_do_not_fit_in_memory_are_read_batch_by_batch(crop, sizes, monkeypatch):
    recipe = replace(PLAIN, crop=crop, resize_px=30, flip=True)
    resident, _ = made(recipe, sizes)
    assert resident.resident is not None
    read, _ = made(recipe, sizes, resident=False, monkeypatch=monkeypatch)
    assert read.resident is None
    for step in (0, 1, 2, 7):
        for a, b in zip(resident.batch(step), read.batch(step), strict=True):
            assert torch.equal(a, b)


def test_batches_resume_from_any_step():
    shown, _ = made(replace(PLAIN, crop="random", resize_px=30, flip=True, mixup_alpha=0.1))
    later = shown.batches(3)
    for step in (3, 4, 5):
        *batch, global_size = next(later)
        assert global_size == 6
        for a, b in zip(batch, shown.batch(step), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.4])
@pytest.mark.parametrize("crop", ["none", "inception"])
def test_ranks_make_their_parts_of_the_same_global_batch(crop, mixup_alpha):
    """Each rank reads the images of its own part, and with MixUp those they are paired with."""
    recipe = replace(PLAIN, crop=crop, flip=True, batch_size=7, mixup_alpha=mixup_alpha)
    whole, _ = made(recipe)
    parts = [made(recipe, process=Process(i, 3))[0] for i in range(3)]
    for step in (0, 2):
        images, labels = (torch.cat(each) for each in zip(*(p.batch(step) for p in parts), strict=True))
        assert torch.equal(labels, whole.batch(step)[1])
        assert torch.allclose(images, whole.batch(step)[0], atol=1e-3)
        assert [len(part.batch(step)[0]) for part in parts] == [3, 2, 2]


def test_a_crop_larger_than_its_image_is_a_usage_error():
    with pytest.raises(UsageError, match="cannot cut 24 px from resize_px 20"):
        made(replace(PLAIN, crop="random", resize_px=20))


@pytest.mark.parametrize("crop", ["random", "inception"])
def test_crops_and_flips_that_the_task_rules_out_are_skipped(crop):
    shown, originals = made(replace(PLAIN, crop=crop, resize_px=30, flip=True), flip=False, crop=False)
    images, labels = shown.batch(0)
    for crop, label in zip(images, labels, strict=True):
        image = originals[int(label) if label < 100 else int(label) - 100 + 13]
        whole = KERNELS["tf2_bilinear"](torch.from_numpy(image)[None].permute(0, 3, 1, 2), (24, 24))[0]
        assert (crop - whole).abs().max() < 0.02


def test_mixup_gives_class_probabilities():
    shown, _ = made(replace(PLAIN, mixup_alpha=0.1))
    _, shares = shown.batch(0)
    assert shares.shape == (6, 200)
    assert torch.allclose(shares.sum(1), torch.ones(6))
