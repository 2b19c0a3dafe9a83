"""MixUp, CutMix and random erasing, against timm's own, which is given the same random numbers."""

import numpy as np
import pytest
import timm.data.mixup
import timm.data.random_erasing
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from tests.making.draws import numpy_with, python_random
from vitbench.core.seeding import derived_seed, torch_generator
from vitbench.data import mixing
from vitbench.data.erasing import erase, random_part
from vitbench.data.mixing import Mix, drawn, mixup_weight

CLASSES = 7


def batch(count=6, size_px=23):
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 3, size_px, size_px, generator=generator)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def rng_of(purpose, step):
    return np.random.default_rng([derived_seed(4, purpose), step])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.2, 0.0), (0.0, 1.0)])
def test_images_and_targets_are_timms(mixup, cutmix, monkeypatch):
    """Losses too: smoothing the mixed targets is mixing smooth ones."""
    theirs = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.1, num_classes=CLASSES)
    kinds = set()
    for step in range(40):
        images, labels = batch()
        rng = rng_of("cutmix" if cutmix else "mixup", step)
        monkeypatch.setattr(timm.data.mixup, "np", numpy_with(rng, first=(1e-9,)))  # always mixes
        expected, expected_targets = theirs(images.clone(), labels)
        mix = drawn(mixup, cutmix, images.shape[-1], 4, step)
        found = mix.images(images, images.flip(0))
        one_hot = F.one_hot(labels, CLASSES).float()
        targets = mix.targets(one_hot, one_hot.flip(0))
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)
        assert torch.allclose(targets * 0.9 + 0.1 / CLASSES, expected_targets, rtol=0, atol=1e-6)
        logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(step)).double()
        loss = F.cross_entropy(logits, targets.double(), label_smoothing=0.1)
        assert loss.item() == pytest.approx(
            SoftTargetCrossEntropy()(logits, expected_targets.double()).item(), rel=1e-6
        )
        kinds.add(mix.box is None)
    assert kinds == {True, False} if mixup and cutmix else {not cutmix}


def test_smooth_losses_of_labels_are_timms():
    _, labels = batch()
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(0)).double()
    found = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert found.item() == pytest.approx(LabelSmoothingCrossEntropy(0.1)(logits, labels).item(), rel=1e-12)


def test_cutmixs_weight_is_the_part_that_is_left():
    for step in range(50):
        mix = drawn(0.0, 1.0, 23, 0, step)
        ones = torch.ones(2, 3, 23, 23)
        assert mix.images(ones, 0 * ones)[0, 0].mean().item() == pytest.approx(mix.weight, abs=1e-6)


def test_mixup_mixes_a_batch_with_its_reverse_by_one_weight():
    targets = torch.eye(16)
    share = mixup_weight(0.1, 0, 3)
    found = Mix(share).targets(targets, targets.flip(0))
    assert torch.allclose(found, share * targets + (1 - share) * targets.flip(0))
    assert torch.allclose(found.sum(1), torch.ones(16))
    assert drawn(0.1, 0.0, 23, 0, 3) == Mix(share)
    shares = np.asarray([mixup_weight(0.1, 0, step) for step in range(500)])
    assert np.mean((shares < 0.05) | (shares > 0.95)) > 0.6  # Beta(0.1, 0.1) has its mass at 0 and 1
    assert 0.42 < shares.mean() < 0.58


def test_half_of_the_steps_are_cutmix():
    boxes = [drawn(0.8, 1.0, 23, 0, step).box for step in range(600)]
    assert 0.44 < np.mean([box is not None for box in boxes]) < 0.56
    assert mixing.cut(1.0, 23, np.random.default_rng(0)).weight == 1.0
    whole = mixing.cut(0.0, 23, np.random.default_rng(0))
    assert 0 <= whole.weight < 0.8


@pytest.mark.parametrize("size_px", [24, 7])
def test_erased_parts_are_timms(size_px, monkeypatch):
    examples = np.arange(40) + 100
    images, _ = batch(40, size_px)
    found = erase(images, 0.6, 4, 9, examples)
    theirs = RandomErasing(probability=0.6, mode="pixel", max_count=1, device="cpu")
    changed = 0
    for row, example in enumerate(examples):
        rng = np.random.default_rng([derived_seed(4, "erase"), 9, example])
        monkeypatch.setattr(timm.data.random_erasing, "random", python_random(rng))
        expected = images[row].clone()
        noise = torch_generator(4, f"erase 9 {example}")
        monkeypatch.setattr(
            timm.data.random_erasing,
            "_get_pixels",
            lambda *asked, noise=noise, **_: torch.empty(asked[2]).normal_(generator=noise),
        )
        theirs(expected)
        assert torch.equal(found[row], expected)
        changed += not torch.equal(expected, images[row])
    assert 15 < changed < 33


def test_erasing_leaves_its_input_alone_and_does_not_depend_on_the_batch():
    images, _ = batch(12)
    before = images.clone()
    examples = np.arange(12)
    whole = erase(images, 0.5, 0, 3, examples)
    assert torch.equal(images, before)
    assert torch.equal(erase(images[4:9], 0.5, 0, 3, examples[4:9]), whole[4:9])
    assert torch.equal(erase(images, 0.0, 0, 3, examples), images)
    parts = [random_part(1.0, 64, 64, np.random.default_rng(i)) for i in range(500)]
    area = np.asarray([tall * wide for _, _, tall, wide in filter(None, parts)]) / 64**2
    assert 0.018 < area.min() < 0.03
    assert 0.31 < area.max() < 0.35
