"""Tests of training batches: the order of examples, crops, flips and MixUp."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vitbench.api import ImageSource, Split
from vitbench.core.errors import UsageError
from vitbench.data.augment import flips
from vitbench.data.erasing import erase
from vitbench.data.preprocess import apply, preset
from vitbench.data.rand_augment import fill_of, generator_of
from vitbench.data.resize import KERNELS
from vitbench.data.resized_crop import boxes, cut
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


SINGLY = {"rand_augment": "rand-m9-mstd0.5-inc1", "erase": 0.5}
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
        device="cpu", seed=5, flip=flip, crop=crop, normalise=lambda images: images / 255,
        backbone=SimpleNamespace(input=SimpleNamespace(mean=(0.5, 0.4, 0.3))),
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
                (top, left): (resized[:, top : top + 24, left : left + 24] / 255 - crop).abs().max().item()
                for top in range(7)
                for left in range(7)
            }
            corner = min(off, key=off.get)
            assert off[corner] < 0.02 / 255
            corners.add(corner)
    assert len(corners) > 10
    assert {0, 6} <= {top for top, _ in corners}


@pytest.mark.parametrize("crop", ["none", "random", "inception", "random_resized"])
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
@pytest.mark.parametrize("crop", ["none", "inception", "random_resized"])
def test_ranks_make_their_parts_of_the_same_global_batch(crop, mixup_alpha):
    """Each rank reads the images of its own part, and with MixUp those they are paired with."""
    recipe = replace(PLAIN, crop=crop, flip=True, batch_size=7, mixup_alpha=mixup_alpha)
    if crop == "random_resized":
        recipe = replace(recipe, **SINGLY, cutmix_alpha=2 * mixup_alpha)
    whole, _ = made(recipe)
    parts = [made(recipe, process=Process(i, 3))[0] for i in range(3)]
    for step in (0, 2):
        images, labels = (torch.cat(each) for each in zip(*(p.batch(step) for p in parts), strict=True))
        assert torch.equal(labels, whole.batch(step)[1])
        assert torch.allclose(images, whole.batch(step)[0], atol=4e-6)
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
        assert (crop - whole / 255).abs().max() < 0.02 / 255


def test_mixup_gives_class_probabilities():
    shown, _ = made(replace(PLAIN, mixup_alpha=0.1))
    _, shares = shown.batch(0)
    assert shares.shape == (6, 200)
    assert torch.allclose(shares.sum(1), torch.ones(6))


@pytest.mark.parametrize(("threads", "resident"), [(1, True), (3, False)])
def test_images_augmented_singly_are_the_same_whatever_the_threads(threads, resident, monkeypatch):
    recipe = replace(PLAIN, crop="random_resized", flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, **SINGLY)
    expected, _ = made(recipe)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    shown, _ = made(recipe, resident=resident, monkeypatch=monkeypatch)
    assert shown.readers._max_workers == threads
    seen = [shown.batch(step) for step in (5, 0, 3)]
    for (images, targets), step in zip(seen, (5, 0, 3), strict=True):
        assert torch.equal(images, expected.batch(step)[0])
        assert torch.equal(targets, expected.batch(step)[1])
        assert images.shape == (6, 3, 24, 24)
        assert torch.allclose(targets.sum(1), torch.ones(6))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_an_image_is_augmented_the_same_way_in_any_batch():
    """By the seed, the step and its place in the data alone."""
    recipe = replace(PLAIN, crop="random_resized", flip=True, **SINGLY)
    small, originals = made(recipe)
    large, _ = made(replace(recipe, batch_size=17))
    images, labels = large.batch(0)
    how, fill = small.augmentation.rand_augment, fill_of((0.5, 0.4, 0.3))
    for image, label in zip(images, labels, strict=True):
        place = int(label) if label < 100 else int(label) - 100 + 13
        own = np.asarray([place])
        (box,) = boxes("random_resized", np.asarray([originals[place].shape[:2]]), 5, 0, own)
        alone = cut(originals[place], box, 24)
        if flips(5, 0, own)[0]:
            alone = alone.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alone = np.asarray(how(alone, fill, generator_of(5, 0, place)))
        expected = torch.from_numpy(alone.copy()).permute(2, 0, 1)[None].float() / 255
        assert torch.equal(erase(expected, 0.5, 5, 0, np.asarray([place]))[0], image)


def test_what_labels_do_not_survive_is_left_out():
    recipe = replace(PLAIN, crop="random_resized", flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, **SINGLY)
    shown, originals = made(replace(recipe, mixup_alpha=0.0), flip=False, crop=False)
    images, labels = shown.batch(0)
    assert labels.ndim == 1  # nothing is mixed without CutMix
    plain = 0
    for image, label in zip(images, labels, strict=True):
        original = Image.fromarray(originals[int(label) if label < 100 else int(label) - 100 + 13])
        whole = np.asarray(original.resize((24, 24), Image.Resampling.BICUBIC))
        plain += bool(np.abs(image.permute(1, 2, 0).numpy() * 255 - whole).max() < 0.01)
    assert plain  # a quarter, where RandAugment applies neither of its operations
    mixed, _ = made(recipe, flip=False, crop=False)
    assert mixed.batch(0)[1].ndim == 2
    assert mixed.augmentation.cutmix_alpha == 0
