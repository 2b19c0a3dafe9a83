"""Dropout and stochastic depth, against the networks that timm builds with them."""

import pytest
import timm
import torch
from torch import nn

from vitbench.backbones.models.unfilled import on_meta
from vitbench.protocols.finetune.regularise import regularise
from vitbench.protocols.recipes import Recipe

SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 0}


def recipe(**fields):
    return Recipe(steps=1, warmup_steps=0, base_lr=0.1, **fields)


def outputs(network, seed=0):
    """Features of two passes in training mode."""
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network.train()
    torch.manual_seed(seed)
    with torch.no_grad():
        return torch.stack([network(images), network(images)])


CASES = (
    ("vit_tiny_patch16_224", SMALL_VIT, {"dropout": 0.3}, {"pos_drop_rate": 0.3, "proj_drop_rate": 0.3}),
    ("vit_tiny_patch16_224", SMALL_VIT, {"attention_dropout": 0.4}, {"attn_drop_rate": 0.4}),
    ("vit_tiny_patch16_224", SMALL_VIT, {"stochastic_depth": 0.5}, {"drop_path_rate": 0.5}),
    ("resnet10t", {"num_classes": 0}, {"stochastic_depth": 0.5}, {"drop_path_rate": 0.5}),
    ("resnetv2_50x1_bit", {"num_classes": 0}, {"stochastic_depth": 0.5}, {"drop_path_rate": 0.5}),
    ("convnext_atto", {"num_classes": 0}, {"stochastic_depth": 0.5}, {"drop_path_rate": 0.5}),
)


@pytest.mark.parametrize(("name", "options", "asked", "timms"), CASES)
def test_training_passes_equal_those_of_timm_built_with_it(name, options, asked, timms):
    plain = timm.create_model(name, **options)
    torch.manual_seed(5)
    for weight in plain.parameters():  # some are zero at the start, which would hide what is dropped
        nn.init.normal_(weight, std=0.2)
    reference = timm.create_model(name, **options, **timms)
    reference.load_state_dict(plain.state_dict())
    undisturbed = outputs(plain)
    plain.load_state_dict(reference.state_dict())  # running statistics
    (note,) = regularise(plain, recipe(**asked))
    assert "layers" in note
    assert "not applied" not in note
    found = outputs(plain)
    assert torch.equal(found, outputs(reference))
    assert not torch.allclose(found, undisturbed)
    assert torch.equal(plain.eval()(torch.ones(1, 3, 32, 32)), reference.eval()(torch.ones(1, 3, 32, 32)))


def test_what_a_network_has_no_layers_for_is_said():
    network = timm.create_model("resnetv2_50x1_bit", num_classes=0)
    notes = regularise(network, recipe(dropout=0.1, attention_dropout=0.2, stochastic_depth=0.1))
    assert notes == [
        "dropout 0.1 not applied: this network has no layers for it",
        "attention dropout 0.2 not applied: this network has no layers for it",
        "stochastic depth 0.1 in 16 layers",
    ]
    assert regularise(network, recipe()) == []


def test_a_vit_of_l16s_shape_drops_out_in_73_layers_as_vit_jax():
    """Behind the position embeddings, and three times in each of 24 blocks."""
    with on_meta():
        network = timm.create_model("vit_large_patch16_224", num_classes=0)
    assert regularise(network, recipe(dropout=0.1)) == ["dropout 0.1 in 73 layers"]
