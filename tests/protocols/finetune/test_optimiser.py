"""Optimisers, weight decay and layer-wise rates, against torch's and timm's own."""

from dataclasses import replace

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from vitbench.backbones.models.unfilled import on_meta
from vitbench.core.errors import UsageError
from vitbench.protocols.finetune import train
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.optimiser import parameter_groups
from vitbench.protocols.finetune.trainer import Features, Trainer
from vitbench.protocols.recipes import Recipe

SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
NETWORKS = (
    ("vit_tiny_patch16_224", SMALL_VIT),
    ("resnetv2_50x1_bit", {}),
    ("efficientnet_b0", {}),
    ("convnext_atto", {}),
)


class Backbone(nn.Module):
    def __init__(self, name="vit_tiny_patch16_224", **options):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = timm.create_model(name, num_classes=0, **(options or SMALL_VIT))
        self.feature_dim = self.network.num_features

    def features(self, images):
        return self.network(images)


def batches(count, size_px=32):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.randn(8, 3, size_px, size_px, generator=generator)
        yield images, torch.randint(0, 5, (8,), generator=generator)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("layer_decay", [0.65, 1.0])
def test_rates_and_decay_of_every_weight_are_timms(name, options, layer_decay):
    with on_meta():
        whole = timm.create_model(name, num_classes=5, **options)
        ours = nn.Sequential(Features(Backbone(name, **(options or {"in_chans": 3}))), nn.Linear(3, 5))
    names = {id(weight): name for name, weight in whole.named_parameters()}
    wanted = {
        names[id(weight)]: (round(group["lr_scale"], 9), group["weight_decay"])
        for group in param_groups_layer_decay(
            whole,
            weight_decay=0.05,
            no_weight_decay_list=getattr(whole, "no_weight_decay", set)(),
            layer_decay=layer_decay,
        )
        for weight in group["params"]
    }
    own = {id(weight): name for name, weight in ours.named_parameters()}
    recipe = Recipe(steps=1, warmup_steps=0, base_lr=0.1, weight_decay=0.05, layer_decay=layer_decay)
    found = {
        own[id(weight)]: (round(group["lr_scale"], 9), group["weight_decay"])
        for group in parameter_groups(ours, recipe)
        for weight in group["params"]
    }
    head = {"1.weight": (1.0, 0.05), "1.bias": (1.0, 0.0)}
    body = {f"0.backbone.network.{name}": value for name, value in wanted.items()}
    classifier = {name: value for name, value in body.items() if name not in found}
    assert found == {name: value for name, value in body.items() if name in found} | head
    assert sorted(classifier.values()) == sorted(head.values())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_steps_are_those_of_torch_with_timms_groups(optimiser):
    """The same trajectory, in float32, with label smoothing, clipping, weight decay and layer-wise rates."""
    recipe = Recipe(
        steps=6, warmup_steps=2, base_lr=0.01, optimiser=optimiser, weight_decay=0.05, layer_decay=0.75,
        label_smoothing=0.1, clip_norm=1.0, beta2=0.95,
    )  # fmt: skip
    log = train(Backbone(), batches(6), 5, recipe)
    reference = Backbone()
    reference.network.head = nn.Linear(24, 5)
    nn.init.zeros_(reference.network.head.weight)
    nn.init.zeros_(reference.network.head.bias)
    exempt = reference.network.no_weight_decay()
    groups = param_groups_layer_decay(
        reference.network, weight_decay=0.05, no_weight_decay_list=exempt, layer_decay=0.75
    )
    kind = (
        torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
        if optimiser == "adamw"
        else torch.optim.SGD(groups, momentum=0.9)
    )
    losses = []
    for step, (images, labels) in enumerate(batches(6)):
        for group in kind.param_groups:
            group["lr"] = recipe.learning_rate(step) * group["lr_scale"]
        kind.zero_grad()
        smooth = torch.nn.functional.one_hot(labels, 5) * 0.9 + 0.1 / 5
        loss = -(smooth * reference.network(images).log_softmax(1)).sum(1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(reference.network.parameters(), 1.0)
        kind.step()
        losses.append(loss.item())
    assert log.losses == pytest.approx(losses, abs=2e-6)
    assert torch.allclose(log.head.weight, reference.network.head.weight, atol=1e-6)


def test_adamw_resumes_from_a_checkpoint_to_the_same_weights(tmp_path):
    recipe = Recipe(
        steps=6,
        warmup_steps=0,
        base_lr=1e-3,
        optimiser="adamw",
        weight_decay=0.05,
        dropout=0.1,
        stochastic_depth=0.2,
    )
    torch.manual_seed(3)
    log = train(Backbone(), batches(6), 5, recipe)
    torch.manual_seed(3)
    first = Trainer(Backbone(), 5, recipe, dtype="float32")
    first.model.train()
    made = list(batches(6))
    for batch in made[:3]:
        first.step(*batch)
    kept = Checkpoints(tmp_path).checkpoint("run", recipe.fields())
    first.recipe = replace(recipe, steps=3)  # the last step is always written
    kept.keep(first)
    second = Trainer(Backbone(), 5, recipe, dtype="float32")
    second.model.train()
    second.restore(kept.read())
    for batch in made[3:]:
        second.step(*batch)
    assert second.read()[0] == log.losses
    assert torch.equal(second.head.weight, log.head.weight)


def test_layer_decay_without_layers_is_refused_in_words():
    recipe = Recipe(steps=1, warmup_steps=0, base_lr=0.1, layer_decay=0.7)
    with pytest.raises(UsageError, match="layer_decay needs a network that says which layer"):
        parameter_groups(nn.Linear(3, 3), recipe)
