"""The AdamW recipes of MAE, BEiT and DeiT III: layers, decay, schedules, settings, and a trajectory in float64."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from vitbench.api import InputSpec
from vitbench.core.errors import UsageError
from vitbench.protocols.finetune import train
from vitbench.protocols.finetune.optimiser import parameter_groups
from vitbench.protocols.finetune.pooling import pool_patches
from vitbench.protocols.finetune.trainer import Features
from vitbench.protocols.finetune.tuning import init_head
from vitbench.protocols.recipe import Recipe
from vitbench.protocols.recipes import Case, recipes_for

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 3, "num_heads": 3}
CLASSES = 5
PARAMS = {"B": 86_000_000, "L": 303_000_000, "H": 631_000_000}


def only(name, task="imagenet", examples=4096, size="B", **changes):
    (recipe,) = recipes_for(name, Case(task, examples, 224**2, PARAMS[size]), changes).recipes
    return recipe


class Backbone(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.input = InputSpec(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.feature_dim = 12

    def features(self, images):
        return self.network(images)


def vit(**options):
    torch.manual_seed(0)
    return timm.models.VisionTransformer(**SMALL, num_classes=0, **options)


def beit():
    torch.manual_seed(0)
    options = {"init_values": 0.1, "use_abs_pos_emb": False, "use_rel_pos_bias": True}
    return timm.models.Beit(**SMALL, num_classes=0, **options)


def mae_layer(name, depth):
    """By MAE's names (MAE:util/lr_decay.py:64-78)."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else depth + 1


def beit_layer(name, depth):
    """By BEiT's names (BEIT:beit/optim_factory.py:33-43), with `depth + 2` values."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("rel_pos_bias") or not name.startswith("blocks"):
        return depth + 1
    return int(name.split(".")[1]) + 1


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (vit(), mae_layer),
        (vit(global_pool="avg"), mae_layer),
        (vit(class_token=False, global_pool="avg"), mae_layer),
        (beit(), beit_layer),
    ],
    ids=["class token", "mean", "no class token", "relative positions"],
)
def test_rates_and_decay_of_every_weight_are_the_references(network, layer):
    recipe = only("mae" if layer is mae_layer else "beit")
    ours = nn.Sequential(Features(Backbone(network)), nn.Linear(12, CLASSES))
    names = {id(w): f"head.{name}" for name, w in ours[1].named_parameters()}
    names |= {id(w): name for name, w in network.named_parameters()}
    found = {
        names[id(weight)]: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(ours, recipe)
        for weight in group["params"]
    }
    assert set(found) == set(names.values())
    spared = {"pos_embed", "cls_token"}  # `no_weight_decay` of both
    for name, weight in ((names[id(w)], w) for w in ours.parameters()):
        is_spared = weight.ndim == 1 or name.endswith(".bias") or name in spared
        assert found[name] == pytest.approx(
            (0.65 ** (4 - layer(name, 3)), 0.0 if is_spared else 0.05), rel=1e-12
        ), name
    tables = [name for name in found if "relative_position_bias_table" in name]
    assert bool(tables) is (layer is beit_layer)


def test_networks_without_a_row_of_blocks_are_refused():
    ours = nn.Sequential(Features(Backbone(timm.create_model("resnet18", num_classes=0))), nn.Linear(512, 2))
    with pytest.raises(UsageError, match="no single row of blocks"):
        parameter_groups(ours, only("mae"))


@pytest.mark.parametrize(("size", "examples"), [("B", 4096), ("L", 5000), ("H", 1024), ("B", 300)])
def test_rates_of_mae_at_every_step(size, examples):
    how = only("mae", examples=examples, size=size)
    epochs, top = {"B": (100, 5e-4), "L": (50, 1e-3), "H": (50, 1e-3)}[size]
    top, least, batches = top * 1024 / 256, 1e-6, max(examples // 1024, 1)
    assert (how.steps, how.base_lr) == (epochs * batches, pytest.approx(top, rel=1e-15))
    for step in range(how.steps):
        epoch = (step % batches) / batches + step // batches  # MAE:engine_finetune.py, MAE:util/lr_sched.py
        if epoch < 5:
            rate = top * epoch / 5
        else:
            rate = least + (top - least) * 0.5 * (1 + math.cos(math.pi * (epoch - 5) / (epochs - 5)))
        assert how.learning_rate(step) == pytest.approx(rate, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("name", ["beit", "beit-22k"])
@pytest.mark.parametrize(("size", "examples"), [("B", 4096), ("L", 5000), ("B", 300)])
def test_rates_of_beit_at_every_step(name, size, examples):
    how = only(name, examples=examples, size=size)
    epochs, warmup, top = {
        ("beit", "B"): (100, 20, 4e-3), ("beit", "L"): (50, 5, 1e-3),
        ("beit-22k", "B"): (30, 5, 2e-5), ("beit-22k", "L"): (30, 5, 2e-5),
    }[name, size]  # fmt: skip
    batches = max(examples // how.batch_size, 1)
    warm = np.linspace(0, top, warmup * batches)  # BEIT:beit/utils.py:383-400
    rest = np.arange(epochs * batches - len(warm))
    cosine = [1e-6 + 0.5 * (top - 1e-6) * (1 + math.cos(math.pi * i / len(rest))) for i in rest]
    assert how.steps == len(warm) + len(rest)
    for step, rate in enumerate([*warm, *cosine]):
        assert how.learning_rate(step) == pytest.approx(rate, rel=1e-12, abs=1e-18)


def test_rates_of_deit3_are_those_of_timms_scheduler_one_epoch_late():
    how = only("deit3", examples=1300)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-5)
    scheduler = CosineLRScheduler(sgd, t_initial=20, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    for epoch in range(20):
        for batch in range(2):
            assert how.learning_rate(2 * epoch + batch) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-12)
        scheduler.step(epoch)


# MAE:FINETUNE.md, BEIT:beit/get_started_for_image_classification.md, DEIT:README_revenge.md: batch, epochs, rate, layer decay,
# weight decay, stochastic depth, mixing, erasing.
SETTINGS = [
    ("mae", "B", 1024, 100, 5e-4 * 4, 0.65, 0.05, 0.1, (0.8, 1.0), 0.25),
    ("mae", "L", 1024, 50, 1e-3 * 4, 0.75, 0.05, 0.2, (0.8, 1.0), 0.25),
    ("mae", "H", 1024, 50, 1e-3 * 4, 0.75, 0.05, 0.3, (0.8, 1.0), 0.25),
    ("beit", "B", 128 * 8, 100, 4e-3, 0.65, 0.05, 0.1, (0.8, 1.0), 0.25),
    ("beit", "L", 64 * 2 * 8, 50, 1e-3, 0.75, 0.05, 0.2, (0.8, 1.0), 0.25),
    ("beit-22k", "B", 64 * 8, 30, 2e-5, 0.85, 1e-8, 0.1, (0.0, 0.0), 0.25),
    ("beit-22k", "L", 32 * 2 * 8, 30, 2e-5, 0.9, 1e-8, 0.4, (0.0, 0.0), 0.25),
    ("deit3", "B", 64 * 8, 20, 1e-5, None, 0.1, 0.2, (0.8, 1.0), 0.0),
    ("deit3", "L", 64 * 8, 20, 1e-5, None, 0.1, 0.45, (0.8, 1.0), 0.0),
    ("deit3", "H", 32 * 16, 20, 1e-5, None, 0.1, 0.55, (0.8, 1.0), 0.0),
]


@pytest.mark.parametrize(("name", "size", *"abcdefgh"), SETTINGS)
def test_settings_are_the_sources(name, size, a, b, c, d, e, f, g, h):
    how = only(name, size=size)
    assert (how.batch_size, how.epochs, how.base_lr, how.layer_decay) == (a, b, pytest.approx(c), d)
    assert (how.weight_decay, how.stochastic_depth, how.erase) == (e, f, h)
    assert (how.mixup_alpha, how.cutmix_alpha) == g
    assert (how.optimiser, how.momentum, how.beta2, how.clip_norm) == ("adamw", 0.9, 0.999, None)
    assert (how.label_smoothing, how.flip, how.size_px, how.last_batch) == (0.1, True, 224, "drop")
    assert (how.crop, how.rand_augment) == ("random_resized", "rand-m9-mstd0.5-inc1")
    assert recipes_for(name, Case("imagenet", 10**6, 224**2), {}).departs == ""
    assert "ImageNet only" in recipes_for(name, Case("cifar10", 10**4, 32**2), {}).departs


@pytest.mark.parametrize(("how", "std"), [("mae", 2e-5), ("deit", 0.02)])
def test_heads_begin_as_the_references(how, std):
    torch.manual_seed(0)
    head = nn.Linear(300, 200)
    init_head(head, Recipe(steps=1, warmup_steps=0, base_lr=0.1, head_init=how))
    assert head.weight.std().item() == pytest.approx(std, rel=0.02)
    assert abs(head.weight.mean().item()) < 0.02 * std
    assert not head.bias.any()


def test_patches_are_pooled_through_a_new_norm():
    """As MAE's network does (MAE:models_vit.py), with the rest of the weights as they were."""
    network = vit()
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = network.patch_embed(images)
        x = torch.cat((network.cls_token.expand(3, -1, -1), x), 1) + network.pos_embed
        x = network.blocks(x)[:, 1:].mean(1)
        expected = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        before = Backbone(network).features(images)
        assert "new LayerNorm" in pool_patches(Backbone(network))
        assert torch.allclose(Backbone(network).features(images), expected, atol=1e-6)
        assert not torch.allclose(before, expected, atol=0.1)
    assert not [name for name, _ in network.named_parameters() if name.startswith("norm")]
    assert network.fc_norm.weight.requires_grad
    resnet = Backbone(timm.create_model("resnet18", num_classes=0))
    assert "pooled as the backbone does" in pool_patches(resnet)


@pytest.mark.parametrize("targets", ["labels", "mixed"])
def test_a_trajectory_is_that_of_a_reimplementation_in_float64(targets):
    """MAE's recipe without stochastic depth: AdamW written out, by MAE's layers, rates and decay."""
    recipe = only("mae", examples=1024, size_px=16, stochastic_depth=0.0, epochs=12, warmup_epochs=2)
    generator = torch.Generator().manual_seed(1)
    batches = [
        (
            torch.randn(4, 3, 16, 16, generator=generator),
            torch.randn(4, CLASSES, generator=generator).softmax(1)
            if targets == "mixed"
            else torch.randint(0, CLASSES, (4,), generator=generator),
        )
        for _ in range(2)
    ] * 4
    network = vit()
    backbone = Backbone(copy.deepcopy(network))
    pool_patches(network)
    torch.manual_seed(7)
    log = train(backbone, batches, CLASSES, recipe)
    torch.manual_seed(7)
    head = nn.Linear(12, CLASSES)
    init_head(head, recipe)
    losses = _reimplemented(network.double(), head.double(), batches, recipe)
    assert log.losses == pytest.approx(losses, abs=1e-6)
    assert losses[-1] < losses[0]


def _reimplemented(network, head, batches, recipe):
    weights = {**dict(network.named_parameters()), **{f"head.{n}": w for n, w in head.named_parameters()}}
    state = {name: SimpleNamespace(m=0.0, v=0.0) for name in weights}
    losses = []
    for step, (images, labels) in enumerate(batches):
        targets = labels.double() if labels.ndim == 2 else torch.eye(CLASSES).double()[labels]
        smooth = targets * 0.9 + 0.1 / CLASSES
        loss = -(smooth * head(network(images.double())).log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        losses.append(loss.item())
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            rate = recipe.learning_rate(step) * 0.65 ** (4 - mae_layer(name, 3))
            decay = 0.05 if weight.ndim > 1 and name not in ("pos_embed", "cls_token") else 0.0
            own = state[name]
            own.m = 0.9 * own.m + 0.1 * gradient
            own.v = 0.999 * own.v + 0.001 * gradient**2
            scaled = (own.v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            with torch.no_grad():
                weight *= 1 - rate * decay
                weight -= rate * own.m / (1 - 0.9 ** (step + 1)) / scaled
    return losses
