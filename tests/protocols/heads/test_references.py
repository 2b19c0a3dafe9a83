"""Trained heads against what the references' own code gave in float64: losses of every step, rates, and final weights."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch

from tests.making.heads import StoredTokens, golden, numbered, seeded
from vitbench.api import Provenance
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_create import TimmModel
from vitbench.protocols.heads.attention import AttentionHeads, part_width, read_tokens
from vitbench.protocols.heads.linear import LinearHeads, read_rows
from vitbench.protocols.heads.optimisers import Optimiser
from vitbench.protocols.heads.recipe import HeadRecipe, recipe_of
from vitbench.protocols.heads.stack import Stack
from vitbench.protocols.heads.trainer import HeadTrainer

CLASSES, CLOSE = 3, {"rtol": 1e-6, "atol": 1e-6}
GOLDEN = golden()
NAMES = {"query": "query_token", "weight": "linear.weight"}  # of CAPI's


def trainer_of(kind, read, backbone, recipe, begin, size_px=1):
    """A trainer whose heads begin with given weights."""
    sample = read(backbone, numbered([0]), recipe.inputs)
    heads = {}
    for name in recipe.inputs:
        points = [point for point in recipe.points() if point.reads == name]
        heads[name] = kind(points, sample[name], CLASSES, recipe, 0)
        with torch.no_grad():
            for weight, values in heads[name].weights.items():
                if not weight.endswith("bias"):
                    values.copy_(torch.stack([begin(point, weight, values.shape[1:]) for point in points]))
    return HeadTrainer(heads, partial(read, backbone, inputs=recipe.inputs), recipe, size_px)


def steps(trainer, labels, batch):
    for step, truth in enumerate(labels):
        trainer.step(numbered(range(step * batch, (step + 1) * batch)), torch.from_numpy(truth))
    return torch.stack(trainer.losses).numpy()


def dinov2(**changes):
    """The reference's run of twelve heads on four blocks, six steps of five images."""
    wanted = {
        "steps": 6, "batch_size": 5, "base_lr": [0.01, 0.5, 2.0], "inputs": ["class", "class+mean", "class-4", "class-4+mean"]
    }  # fmt: skip
    recipe = recipe_of("dinov2", {**wanted, **changes})
    classes = seeded("class", (6, 4, 5, 6)).transpose(1, 2).flatten(0, 1)
    backbone = StoredTokens(classes, seeded("patches", (6, 5, 4, 6)).flatten(0, 1))

    def begin(point, _weight, shape):
        return seeded(f"{point.reads} {point.base_lr}", tuple(shape), 0.3)

    labels = np.random.default_rng(5).integers(0, CLASSES, (6, 5))
    trainer = trainer_of(LinearHeads, read_rows, backbone, recipe, begin)
    return trainer, steps(trainer, labels, 5)


def test_dinov2s_twelve_heads_train_as_its_own():
    trainer, losses = dinov2()
    np.testing.assert_allclose(losses, GOLDEN["dinov2_losses"], **CLOSE)
    rates = [[trainer.recipe.rate(point.base_lr, step) for point in trainer.points] for step in range(6)]
    np.testing.assert_allclose(rates, GOLDEN["dinov2_rates"], rtol=1e-12)
    for place, (name, which) in {2: ("class", 2), 11: ("class-4+mean", 2)}.items():
        alone = trainer.heads[name].alone(which)
        np.testing.assert_allclose(alone["weight"], GOLDEN[f"dinov2_weight_{place}"], **CLOSE)
        np.testing.assert_allclose(alone["bias"], GOLDEN[f"dinov2_bias_{place}"], **CLOSE)


def test_a_head_trains_alone_as_it_does_with_others():
    together, losses = dinov2()
    for place, point in enumerate(together.points):
        alone, own = dinov2(inputs=point.reads, base_lr=point.base_lr)
        np.testing.assert_allclose(own[:, 0], losses[:, place], rtol=1e-6)
        (heads,) = alone.heads.values()
        group = together.heads[point.reads]
        np.testing.assert_allclose(
            heads.alone(0)["weight"], group.alone(list(group.points).index(point))["weight"], **CLOSE
        )


def test_smaller_pieces_give_the_same():
    _, whole = dinov2()
    first = HeadTrainer._fitting
    HeadTrainer._fitting = lambda _self: 2
    try:
        np.testing.assert_allclose(dinov2()[1], whole, rtol=1e-6)
    finally:
        HeadTrainer._fitting = first


def test_maes_head_trains_as_on_two_gpus():
    """LARS behind a BatchNorm whose statistics are a GPU's three images; the first GPU's are kept for testing."""
    changes = {"epochs": 4, "batch_size": 6, "batch_norm": 3, "base_lr": 4.0, "inputs": "features"}
    recipe = recipe_of("mae", changes).for_examples(12)
    assert (recipe.steps, recipe.warmup_steps) == (8, 0)  # a ninth of four epochs is none
    recipe = replace(recipe, warmup_steps=2)
    backbone = StoredTokens(None, seeded("mae rows", (8, 6, 6)).flatten(0, 1)[:, None])
    begin = lambda _point, _weight, shape: seeded("mae head", tuple(shape), 0.3)  # noqa: E731
    trainer = trainer_of(LinearHeads, read_rows, backbone, recipe, begin)
    losses = steps(trainer, np.random.default_rng(6).integers(0, CLASSES, (8, 6)), 6)
    np.testing.assert_allclose([recipe.rate(4.0, step) for step in range(8)], GOLDEN["mae_rates"], rtol=1e-12)
    np.testing.assert_allclose(losses[:, 0], GOLDEN["mae_losses"], **CLOSE)
    alone, norm = trainer.heads["features"].alone(0), trainer.norms["features"]
    np.testing.assert_allclose(alone["weight"], GOLDEN["mae_weight"], **CLOSE)
    np.testing.assert_allclose(alone["bias"], GOLDEN["mae_bias"], **CLOSE)
    np.testing.assert_allclose(norm.mean, GOLDEN["mae_mean"], **CLOSE)
    np.testing.assert_allclose(norm.variance, GOLDEN["mae_var"], **CLOSE)
    shown = StoredTokens(None, seeded("mae test", (4, 6))[:, None])
    trainer.read_images = partial(read_rows, shown, inputs=recipe.inputs)
    np.testing.assert_allclose(trainer.scores(numbered(range(4)))[:, 0], GOLDEN["mae_scores"], **CLOSE)


def test_lars_of_several_heads_is_maes_of_each():
    """With decay; of a matrix, a vector, and a matrix of zeros, whose norm does not scale."""
    recipe = HeadRecipe(steps=3, base_lr=(1.0,), inputs=("class",), optimiser="lars")
    shapes = {"p": (3, 6), "q": (3,), "z": (3, 6)}
    begin = {"p": seeded("lars w", (3, 6)), "q": torch.zeros(3).double(), "z": torch.zeros(3, 6).double()}
    other = {name: 3.0 + torch.rand(shape).double() for name, shape in shapes.items()}
    rates, decays = (
        torch.tensor([0.7, 0.1], dtype=torch.float64),
        torch.tensor([0.1, 0.0], dtype=torch.float64),
    )
    stacks = [Stack(torch.stack([begin[name], other[name]]), rates, decays) for name in shapes]
    optimiser = Optimiser(stacks, recipe)
    for step in range(3):
        gradients = [seeded(f"lars {name} {step}", shape) for name, shape in shapes.items()]
        optimiser.step([torch.stack([each, torch.ones_like(each)]) for each in gradients], 1.0)
    for name, stack in zip(shapes, stacks, strict=True):
        np.testing.assert_allclose(stack.weight[0], GOLDEN[f"lars_{name}"], rtol=1e-12)


def capi(**changes):
    """The reference's run of four attentive heads with two attention heads each, six steps of three images."""
    wanted = {"steps": 6, "batch_size": 3, "base_lr": [0.001, 0.1], "weight_decay": [0.0005, 0.05]}
    recipe = recipe_of("capi", {**wanted, **changes})
    # The reference's loss is the mean over all heads, of which there are four here.
    recipe = replace(recipe, warmup_steps=2, eps=4e-8)
    tokens = seeded("capi tokens", (6, 3, 5, 128)).flatten(0, 1)

    def begin(point, weight, shape):
        tag = f"capi {point.base_lr} {point.weight_decay}"
        if weight in ("key", "value"):
            both = seeded(f"{tag} kv.weight", (256, 128), 0.1)
            return both[:128] if weight == "key" else both[128:]
        return seeded(f"{tag} {NAMES[weight]}", tuple(shape), 0.1)

    return trainer_of(AttentionHeads, read_tokens, StoredTokens(None, tokens), recipe, begin)


def test_capis_attentive_heads_give_and_train_as_its_own():
    trainer = capi()
    first = trainer.scores(numbered(range(3)))
    np.testing.assert_allclose(first, GOLDEN["capi_first"], **CLOSE)
    losses = steps(trainer, np.random.default_rng(9).integers(0, CLASSES, (6, 3)), 3)
    np.testing.assert_allclose(losses, GOLDEN["capi_losses"], **CLOSE)
    np.testing.assert_allclose(trainer.scores(numbered(range(3))), GOLDEN["capi_last"], **CLOSE)
    np.testing.assert_allclose(
        [trainer.recipe.factor(i) for i in range(6)], GOLDEN["capi_factor"], atol=1e-12
    )


def test_capis_schedule_is_its_own_over_all_steps():
    recipe = recipe_of("capi", {})
    found = [recipe.factor(step) for step in (0, 1, 100, 1249, 1250, 1251, 6000, 12498, 12499)]
    np.testing.assert_allclose(found, GOLDEN["capi_factors"], rtol=1e-12, atol=1e-12)
    assert [recipe.rate(0.01, 1249), recipe.batch_size] == [0.04, 1024]


@pytest.mark.parametrize(
    ("width", "part"), [(128, 64), (192, 64), (768, 64), (96, 96), (100, 100), (224, 112), (48, 48)]
)
def test_attention_heads_divide_the_width(width, part):
    assert part_width(width) == part


@pytest.mark.parametrize("registers", [0, 4])
def test_blocks_are_those_of_dinov2s_own_network(registers):
    """`get_intermediate_layers` of three images; timm's network with the same weights."""
    model = timm.models.VisionTransformer(
        img_size=28, patch_size=7, embed_dim=24, depth=4, num_heads=3, mlp_ratio=2, init_values=1.0, num_classes=0,
        reg_tokens=registers, no_embed_class=registers > 0,
    )  # fmt: skip
    state = dinov2_weights(registers)
    state.pop("mask_token")
    if registers:  # timm adds the class token's position to the token
        positions = state["pos_embed"]
        state |= {"cls_token": state["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
        state["reg_token"] = state.pop("register_tokens")
    model.load_state_dict(state)
    model.pretrained_cfg = {"input_size": (3, 28, 28)}
    origin = Provenance("Test", "untrained", "none", "test")
    backbone = TimmBackbone(TimmModel(model, "vit_tiny_patch16_224", origin), 28).double().eval()
    images = torch.from_numpy(np.random.default_rng(11).standard_normal((3, 3, 28, 28)))
    with torch.no_grad():
        for count in (4, 1):
            for block, tokens in enumerate(backbone.last_blocks(images, count), 4 - count):
                wanted = [GOLDEN[f"blocks_{registers}_{part}_{block}"] for part in ("class", "patches")]
                np.testing.assert_allclose(tokens.class_token, wanted[0], **CLOSE)
                np.testing.assert_allclose(tokens.patches, wanted[1], **CLOSE)


def dinov2_weights(registers):
    made = {}
    for name, shape in json.loads(str(GOLDEN[f"blocks_{registers}_shapes"])).items():
        values = seeded(f"dinov2-{registers}:{name}", shape)
        if ("norm" in name and name.endswith("weight")) or name.endswith("gamma"):
            values = 1 + 0.1 * values
        elif name.endswith("bias"):
            values = 0.05 * values
        elif "token" in name or "pos_embed" in name:
            values = 0.2 * values
        else:
            values = values / np.sqrt(np.prod(shape[1:]))
        made[name] = values
    return made
