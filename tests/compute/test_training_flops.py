"""FLOPs of training few parameters, against torch's counter on a real step, and by hand."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitbench.api import InputSpec
from vitbench.compute.flops import forward_flops
from vitbench.compute.training_flops import training_flops
from vitbench.protocols.finetune.search import step_flops
from vitbench.protocols.finetune.trainer import Trainer
from vitbench.protocols.recipe import Recipe

WIDTH, DEPTH, TOKENS = 24, 3, 17  # 32 px in patches of 8, and the class token
TUNINGS = ("all", "head", "bias", "last-1", "last-2", "lora", "vpt-shallow", "vpt-deep")


class Backbone(nn.Module):
    def __init__(self, model, size_px=32):
        super().__init__()
        self.model = model
        self.input = InputSpec(size_px, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.feature_dim = model.num_features

    def features(self, images):
        return self.model(images)

    forward = features


def vit():
    options = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 3}
    return Backbone(timm.models.VisionTransformer(**options, num_classes=0))


def recipe(tune):
    return Recipe(steps=1, warmup_steps=0, base_lr=0.1, batch_size=4, tune=tune, prompt_tokens=5, rank=2)


def of_a_step(backbone, tune, size_px=32):
    """Of one image of a real step, without those of the head."""
    trainer = Trainer(backbone, 7, recipe(tune), dtype="float32")
    images = torch.randn(4, 3, size_px, size_px)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        trainer.step(images, torch.zeros(4, dtype=torch.long))
    forward = 2 * backbone.feature_dim * 7
    with_gradient = 2 if tune == "head" else 3  # of the head's weights and of the features
    return counter.get_total_flops() / 4 - with_gradient * forward


@pytest.mark.parametrize("tune", TUNINGS)
def test_it_is_what_torch_counts_in_a_real_step(tune):
    backbone = vit()
    counted = step_flops(backbone, recipe(tune))
    assert counted == of_a_step(backbone, tune)
    assert all(weight.device.type == "cpu" for weight in backbone.parameters())


@pytest.mark.parametrize("tune", ["all", "head", "bias"])
def test_convolutions_without_groups_too(tune):
    backbone = Backbone(timm.create_model("resnet18", num_classes=0))
    assert step_flops(backbone, recipe(tune)) == of_a_step(backbone, tune)


def test_by_hand():
    """A block has 12 D² weights in products and attention's 2 N D by token; frozen ones pass the gradient on only."""
    products = 2 * TOKENS * 12 * WIDTH**2
    attention = 2 * 2 * TOKENS**2 * WIDTH
    embedding = 2 * (TOKENS - 1) * 3 * 8 * 8 * WIDTH
    forward = embedding + DEPTH * (products + attention)
    assert forward_flops(vit(), 32) == forward == step_flops(vit(), recipe("head"))
    assert step_flops(vit(), recipe("all")) == 3 * forward - embedding  # pixels need no gradient
    assert step_flops(vit(), recipe("bias")) == 2 * forward - embedding + DEPTH * attention
    # Of the last block's first layer nothing in front is trained, so that its input needs no gradient but for the norm there.
    assert step_flops(vit(), recipe("last-1")) == forward + 2 * (products + attention)


@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (4, False), (8, False), (2, True)])
def test_grouped_convolutions_count_their_own_channels(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    first = nn.Conv2d(3, 8, 1)
    second = kind(8, 8, 3, padding=1, groups=groups, bias=False)
    network = nn.Sequential(first, second, nn.Flatten())
    of_first, of_second = 2 * 10 * 10 * 3 * 8, 2 * 10 * 10 * 9 * 8 * 8 // groups
    assert training_flops(network, 10) == 2 * of_first + 3 * of_second
    for weight in first.parameters():
        weight.requires_grad = False
    assert training_flops(network, 10) == of_first + 2 * of_second


def test_what_cannot_be_counted_is_none():
    class Odd(nn.Module):
        def forward(self, images):
            return images * float(images.sum().item())

    assert training_flops(Odd(), 8) is None
    resnet = Backbone(timm.create_model("resnet18", num_classes=0))
    assert step_flops(resnet, recipe("last-1")) is None
