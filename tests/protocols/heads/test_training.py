"""Training heads: optimisers against torch's own, images against Pillow and torchvision, memory, and precision."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from tests.making.heads import numbered, seeded
from vitbench.api import ImageSource, Split
from vitbench.data import resized_crop as crops
from vitbench.data.augment import uniforms
from vitbench.protocols.finetune import batches
from vitbench.protocols.heads.linear import LinearHeads
from vitbench.protocols.heads.optimisers import Optimiser
from vitbench.protocols.heads.recipe import HeadRecipe, recipe_of
from vitbench.protocols.heads.stack import Stack
from vitbench.protocols.heads.trainer import HeadTrainer


@pytest.mark.parametrize("decays", [(0.0, 0.0), (0.1, 0.3)])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimisers_of_stacks_are_torchs_of_each_head(name, decays):
    recipe = HeadRecipe(
        steps=5, base_lr=(1.0,), inputs=("class",), optimiser=name, momentum=0.8, beta2=0.95, eps=1e-5
    )
    begin = torch.stack([seeded(f"w{i}", (3, 4)) for i in range(2)])
    rates = (0.3, 0.02)
    stack = Stack(
        begin.clone(),
        torch.tensor(rates, dtype=torch.float64),
        torch.tensor(decays, dtype=torch.float64),
        any(decays),
    )
    optimiser = Optimiser([stack], recipe)
    weights = [torch.nn.Parameter(each.clone()) for each in begin]
    theirs = []
    for weight, rate, decay in zip(weights, rates, decays, strict=True):
        how = {"lr": rate, "weight_decay": decay}
        made = {
            "sgd": lambda w, how=how: torch.optim.SGD([w], momentum=0.8, **how),
            "adamw": lambda w, how=how: torch.optim.AdamW([w], betas=(0.8, 0.95), eps=1e-5, **how),
        }
        theirs.append(made[name](weight))
    for step in range(5):
        factor = 1.0 - 0.15 * step
        gradients = torch.stack([seeded(f"g{step} {i}", (3, 4)) for i in range(2)])
        optimiser.step([gradients], factor)
        for own, rate, weight, gradient in zip(theirs, rates, weights, gradients, strict=True):
            own.param_groups[0]["lr"] = rate * factor
            weight.grad = gradient.clone()
            own.step()
    np.testing.assert_allclose(
        stack.weight, torch.stack(weights).detach(), rtol=1e-7
    )  # rates are float32 once


def linear_trainer(read, recipe):
    heads = {"mean": LinearHeads(recipe.points(), torch.zeros(1, 3), 2, recipe, 0)}
    return HeadTrainer(heads, read, recipe, 1)


def test_pieces_are_halved_until_they_fit_and_nothing_is_counted_twice():
    recipe = recipe_of("dinov2", {"steps": 2, "batch_size": 10, "inputs": "mean", "base_lr": 1.0})
    most, seen = 3, []

    def read(images):
        seen.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("made up")
        return {"mean": images[:, :, 0, 0] / 10 - 0.5}

    labels = torch.arange(10) % 2
    tight, roomy = (linear_trainer(read, recipe) for _ in range(2))
    tight.step(numbered(range(10)), labels)
    assert seen == [10, 5, 2, 2, 2, 2, 2]
    most = 100
    roomy.step(numbered(range(10)), labels)
    np.testing.assert_allclose(
        tight.heads["mean"].alone(0)["weight"], roomy.heads["mean"].alone(0)["weight"], rtol=1e-6
    )
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        tight.step(numbered(range(10)), labels)


def test_a_state_restores_everything_that_a_step_depends_on():
    recipe = recipe_of(
        "mae", {"steps": 8, "batch_size": 6, "batch_norm": 3, "inputs": "mean", "weight_decay": 0.01}
    )
    read = lambda images: {"mean": images[:, :, 0, 0] * torch.tensor([1.0, -2.0, 0.5])}  # noqa: E731
    labels = torch.arange(6) % 2
    one, two = (linear_trainer(read, recipe) for _ in range(2))
    for step in range(4):
        one.step(numbered(np.arange(6) + step), labels)
    two.restore(one.state())
    for trainer in (one, two):
        trainer.step(numbered(np.arange(6) * 2), labels)
    for name, value in one.state().items():
        other = two.state()[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else str(value) == str(other), (
            name
        )


class Photographs(ImageSource):
    fingerprint = "photographs"

    def __init__(self):
        draw = np.random.default_rng(0)
        self.images = [draw.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8) for i in range(7)]
        self.fast = set()

    def __len__(self):
        return len(self.images)

    def read(self, indices, *, fast_dct=False):
        self.fast.add(fast_dct)
        return [self.images[i] for i in indices]

    def name(self, index):
        return str(index)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize(("kind", "flip"), [("random_resized", True), ("random_resized_once", False)])
def test_batches_are_crops_by_pillow_whatever_the_threads(kind, flip, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(batches, "RESIDENT_BYTES", 0)
    source = Photographs()
    split = Split(source, np.arange(7), np.arange(7))
    data = SimpleNamespace(device="cpu", seed=3, flip=True, crop=True, normalise=lambda images: images / 255)
    recipe = recipe_of("dinov2", {"steps": 4, "batch_size": 4, "flip": flip})
    recipe = HeadRecipe(**{**recipe.__dict__, "crop": kind})
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            shown = batches.TrainingImages(data, [split], recipe.of_images(), 16, 7)
        finally:
            torch.set_num_threads(before)
        assert (shown.resident is not None) == resident
        for step in range(4):
            images, labels = shown.batch(step)
            sizes = np.array([source.images[i].shape[:2] for i in labels])
            copies = [labels[:i].tolist().count(label) for i, label in enumerate(labels)]
            examples = labels.numpy() + 7 * np.array(copies)  # an example that comes twice is drawn twice
            boxes = crops.boxes(kind, sizes, 3, step, examples)
            mirrored = flip & (uniforms(3, step, examples, 1, "flip")[:, 0] < 0.5)
            for image, label, box, mirror in zip(images, labels, boxes, mirrored, strict=True):
                wanted = resized_crop(
                    Image.fromarray(source.images[label]), *map(int, box), [16, 16], InterpolationMode.BICUBIC
                )
                pixels = np.asarray(wanted)[:, ::-1] if mirror else np.asarray(wanted)
                np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels.astype(np.float32) / 255)
    assert source.fast == {False}  # decoded as Pillow does
