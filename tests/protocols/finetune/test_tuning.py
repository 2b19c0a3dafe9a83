"""Tuning few parameters: what is trained, what stays as it is, and trajectories against reimplementations in float64."""

import copy
import math
import sys

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from vitbench.api import InputSpec
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.protocols.finetune import train
from vitbench.protocols.finetune.blocks import blocks_of
from vitbench.protocols.finetune.optimiser import parameter_groups
from vitbench.protocols.finetune.prompts import NAME
from vitbench.protocols.finetune.trainer import Features, Trainer
from vitbench.protocols.finetune.tuning import choose, init_head, set_training
from vitbench.protocols.recipe import PEFT_METHODS, Recipe

CLASSES, SIZE_PX, WIDTH, HEADS = 3, 16, 12, 3
SIZES = {"swin": 224, "mixer": 224, "rope": 224, "xcit": 224}


class Network(nn.Module):
    """A network of timm's as a backbone."""

    def __init__(self, model, size_px=SIZE_PX):
        super().__init__()
        self.model = model
        self.input = InputSpec(size_px, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.feature_dim = model.num_features

    def features(self, images):
        return self.model.forward_head(self.model.forward_features(images), pre_logits=True)

    forward = features


def vit(**options):
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=SIZE_PX, patch_size=8, embed_dim=WIDTH, depth=3, num_heads=HEADS, num_classes=0, **options
    )
    with torch.no_grad():
        for weight in model.parameters():  # biases and norms as after training, not as initialised
            weight.add_(0.05 * torch.randn_like(weight))
    return Network(model)


def other(name):
    torch.manual_seed(0)
    size_px = next((size for part, size in SIZES.items() if part in name), 32)
    return Network(timm.create_model(name, num_classes=0), size_px)


def recipe(**fields):
    return Recipe(
        **{"steps": 6, "warmup_steps": 2, "base_lr": 0.05, "batch_size": 4, "clip_norm": None, **fields}
    )


def batches(steps=6, size_px=SIZE_PX):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(4, 3, size_px, size_px, generator=generator),
            torch.randint(CLASSES, (4,), generator=generator),
        )
        for _ in range(steps)
    ]


# ---- trajectories


def in_float64(model):
    return {name: value.detach().double() for name, value in model.state_dict().items()}


def forward(w, images, *, qkv=lambda i, x, w: F.linear(x, w[f"blocks.{i}.attn.qkv.weight"], w[f"blocks.{i}.attn.qkv.bias"]),
            prompts=None):  # fmt: skip
    """A plain vision transformer's class token, written out; prompts (L, P, D) stand behind the class token."""
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=8).flatten(2).mT
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]
    for i in range(3):
        if prompts is not None and i < len(prompts):
            behind = x[:, 1 + (prompts.shape[1] if i else 0) :]
            x = torch.cat([x[:, :1], prompts[i].expand(len(x), -1, -1), behind], 1)
        normed = F.layer_norm(x, (WIDTH,), w[f"blocks.{i}.norm1.weight"], w[f"blocks.{i}.norm1.bias"], 1e-6)
        q, k, v = qkv(i, normed, w).reshape(len(x), -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT / math.sqrt(WIDTH // HEADS)).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        x = x + F.linear(mixed, w[f"blocks.{i}.attn.proj.weight"], w[f"blocks.{i}.attn.proj.bias"])
        normed = F.layer_norm(x, (WIDTH,), w[f"blocks.{i}.norm2.weight"], w[f"blocks.{i}.norm2.bias"], 1e-6)
        hidden = F.gelu(F.linear(normed, w[f"blocks.{i}.mlp.fc1.weight"], w[f"blocks.{i}.mlp.fc1.bias"]))
        x = x + F.linear(hidden, w[f"blocks.{i}.mlp.fc2.weight"], w[f"blocks.{i}.mlp.fc2.bias"])
    return F.layer_norm(x, (WIDTH,), w["norm.weight"], w["norm.bias"], 1e-6)[:, 0]


def reference(weights, features, how, decayed, optimiser):
    """Losses of training these weights (a list, the head's matrix and bias last) by an optimiser that is written out."""
    weights = [weight.detach().double().requires_grad_() for weight in weights]
    first = [torch.zeros_like(weight) for weight in weights]
    second = [torch.zeros_like(weight) for weight in weights]
    losses = []
    for step, (images, labels) in enumerate(batches()):
        *own, matrix, bias = weights
        loss = F.cross_entropy(F.linear(features(images.double(), own), matrix, bias), labels)
        losses.append(loss.item())
        rate = how.learning_rate(step)
        with torch.no_grad():
            for w, g, m, v, decay in zip(
                weights, torch.autograd.grad(loss, weights), first, second, decayed, strict=True
            ):
                if optimiser == "sgd":
                    m.mul_(0.9).add_(g + (how.weight_decay if decay else 0) * w)
                    w.sub_(rate * m)
                else:
                    w.mul_(1 - rate * (how.weight_decay if decay else 0))
                    m.mul_(0.9).add_(0.1 * g)
                    v.mul_(0.999).add_(0.001 * g**2)
                    unbiased = (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                    w.sub_(rate / (1 - 0.9 ** (step + 1)) * m / unbiased)
    return losses


def starts(backbone, how):
    """The weights that a trainer begins with: what is added is random, so both must begin with the same."""
    torch.manual_seed(7)
    trainer = Trainer(copy.deepcopy(backbone), CLASSES, how, dtype="float32")
    names = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    return dict(zip(names, [weight.detach().clone() for weight in trainer.weights], strict=True))


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_loras_trajectory_is_that_of_a_reimplementation(optimiser):
    how = recipe(
        tune="lora", rank=2, alpha=6.0, optimiser=optimiser, weight_decay=0.1, base_lr=0.02, head_init="torch"
    )
    backbone = vit()
    frozen, begin = in_float64(backbone.model), starts(backbone, how)
    a = [begin[f"0.backbone.model.blocks.{i}.attn.qkv.lora_A.default.weight"] for i in range(3)]
    b = [begin[f"0.backbone.model.blocks.{i}.attn.qkv.lora_B.default.weight"] for i in range(3)]

    def features(images, own):
        def qkv(i, x, w):
            plain = F.linear(x, w[f"blocks.{i}.attn.qkv.weight"], w[f"blocks.{i}.attn.qkv.bias"])
            return plain + 6.0 / 2 * F.linear(F.linear(x, own[i]), own[3 + i])

        return forward(frozen, images, qkv=qkv)

    expected = reference(
        [*a, *b, begin["1.weight"], begin["1.bias"]], features, how, [*[True] * 7, False], optimiser
    )
    torch.manual_seed(7)
    log = train(backbone, batches(), CLASSES, how)
    assert log.losses == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert abs(log.losses[-1] - log.losses[0]) > 1e-3
    assert log.trained_parameters == 3 * 2 * (WIDTH + 3 * WIDTH) + CLASSES * (WIDTH + 1)


@pytest.mark.parametrize(("tune", "layers"), [("vpt-shallow", 1), ("vpt-deep", 3)])
def test_prompts_trajectory_is_that_of_a_reimplementation(tune, layers):
    how = recipe(
        tune=tune, prompt_tokens=2, weight_decay=0.01, decay_vectors=True, head_init="vpt", base_lr=0.5
    )
    backbone = vit()
    frozen, begin = in_float64(backbone.model), starts(backbone, how)
    tokens = begin[f"0.backbone.model.{NAME}.tokens"]
    assert tokens.shape == (layers, 2, WIDTH)

    def features(images, own):
        return forward(frozen, images, prompts=own[0])

    expected = reference(
        [tokens, begin["1.weight"], begin["1.bias"]], features, how, [True, True, False], "sgd"
    )
    torch.manual_seed(7)
    log = train(backbone, batches(), CLASSES, how)
    assert log.losses == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert abs(log.losses[-1] - log.losses[0]) > 1e-3
    assert log.trained_parameters == layers * 2 * WIDTH + CLASSES * (WIDTH + 1)


# ---- what is trained, on which networks


def changed(backbone, how, size_px=SIZE_PX):
    """The names of what training changed among what the network had before, and how many numbers were added."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    log = train(backbone, batches(size_px=size_px), CLASSES, how)
    after = {name.replace(".base_layer", ""): value for name, value in backbone.state_dict().items()}
    assert set(before) <= set(after)
    differing = {name for name, value in before.items() if not torch.equal(value, after[name])}
    return differing, log


@pytest.mark.parametrize(
    "name",
    [
        "vit",
        "resnet18",
        pytest.param("resnetv2_50x1_bit", marks=pytest.mark.slow),
        "efficientnet_b0",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_biases(name):
    backbone = vit() if name == "vit" else other(name)
    differing, log = changed(backbone, recipe(tune="bias", base_lr=0.1), backbone.input.size_px)
    assert differing
    assert all(path.endswith("bias") for path in differing)
    biases = sum(p.numel() for path, p in backbone.named_parameters() if path.endswith("bias"))
    assert log.trained_parameters == biases + CLASSES * (backbone.feature_dim + 1)


@pytest.mark.parametrize("name", ["vit", "resnet18", "efficientnet_b0"])
def test_the_head_alone(name):
    backbone = vit() if name == "vit" else other(name)
    differing, log = changed(backbone, recipe(tune="head"), backbone.input.size_px)
    assert differing == set()  # running statistics of BatchNorm, too
    assert log.trained_parameters == CLASSES * (backbone.feature_dim + 1)
    assert log.losses[-1] != log.losses[0]


def test_frozen_norms_in_training_mode_move_their_statistics():
    differing, _ = changed(other("resnet18"), recipe(tune="head", frozen_mode="train"), 32)
    assert differing
    assert all("running" in path or "num_batches" in path for path in differing)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_blocks_and_what_follows(count):
    differing, _ = changed(vit(), recipe(tune=f"last-{count}", base_lr=0.1))
    assert {path.split(".")[2] for path in differing if ".blocks." in path} == {
        str(i) for i in range(3 - count, 3)
    }
    assert {path for path in differing if ".blocks." not in path} == {"model.norm.weight", "model.norm.bias"}


def test_the_last_block_of_torchvisions_transformer():
    """Its blocks have names, not numbers."""
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=2
    )
    model.num_features, model.heads = 8, nn.Identity()
    model.forward_features, model.forward_head = model.forward, lambda x, pre_logits: x
    differing, _ = changed(Network(model), recipe(tune="last-1", base_lr=0.1))
    parts = {".".join(path.split(".")[:5]) for path in differing if "layers" in path}
    assert {part.split(".")[3] for part in parts} == {"encoder_layer_2"}
    assert {path for path in differing if "layers" not in path} == {
        "model.encoder.ln.weight",
        "model.encoder.ln.bias",
    }


@pytest.mark.parametrize("tune", PEFT_METHODS)
def test_each_method_of_peft_starts_from_the_network_and_changes_only_what_it_adds(tune):
    backbone, how = vit(), recipe(tune=tune, rank=2, base_lr=0.3)
    images = batches(1)[0][0]
    plain = backbone.features(images)
    started = copy.deepcopy(backbone)
    choose(started, how)
    torch.testing.assert_close(started.eval().features(images), plain, rtol=1e-4, atol=1e-5)
    differing, log = changed(backbone, how)
    assert all(".norm" in path for path in differing) if tune == "ln_tuning" else differing == set()
    assert log.trained_parameters > CLASSES * (WIDTH + 1)
    assert not torch.allclose(backbone.features(images), plain, rtol=1e-4, atol=1e-5)


def test_low_rank_adapters_of_convolutions_by_name():
    how = recipe(tune="lora", targets=("conv1", "conv2"), rank=2, base_lr=0.1)
    differing, log = changed(other("resnet18"), how, 32)
    assert differing == set()
    assert log.trained_parameters > CLASSES * 513


@pytest.mark.parametrize(
    ("tune", "name", "said"),
    [
        ("vpt-deep", "resnet18", "no single row of blocks|plain vision transformer"),
        ("lora", "resnet18", "state targets, some of 0, conv1"),
        ("vpt-deep", "mixer_s32_224", "takes no further tokens"),
        pytest.param(
            "vpt-shallow", "vit_small_patch16_rope_224", "takes no further tokens", marks=pytest.mark.slow
        ),
        pytest.param("vpt-deep", "xcit_nano_12_p16_224", "takes no further tokens", marks=pytest.mark.slow),
        ("last-1", "convnext_atto", "no single row of blocks"),
        pytest.param(
            "last-1", "swin_tiny_patch4_window7_224", "no single row of blocks", marks=pytest.mark.slow
        ),
        ("last-9", "vit", "has 3 blocks"),
    ],
)
def test_what_a_network_cannot_do_is_said(tune, name, said):
    with pytest.raises(UsageError, match=said):
        choose(vit() if name == "vit" else other(name), recipe(tune=tune))


def test_an_unknown_target_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="no layer ends in 'qvk': targets are fc1, fc2, proj, qkv"):
        choose(vit(), recipe(tune="lora", targets=("qvk",)))


def test_without_peft_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DataMissingError, match=r"needs peft(.|\n)*pip install 'vitbench\[peft\]'"):
        choose(vit(), recipe(tune="lora"))


# ---- prompts


def test_prompts_leave_the_pooled_tokens_as_they_were():
    """Pooling over patches must not pool over prompts, whatever their number."""
    backbone = vit(global_pool="avg", class_token=False)
    seen = []
    backbone.model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    backbone.model.fc_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    choose(backbone, recipe(tune="vpt-deep", prompt_tokens=5))
    seen.clear()
    backbone.features(batches(1)[0][0])
    assert seen[0][1] == (SIZE_PX // 8) ** 2


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
@pytest.mark.parametrize("tune", ["vpt-shallow", "vpt-deep"])
def test_a_copy_has_prompts_of_its_own(options, tune):
    backbone = vit(**options)
    choose(backbone, recipe(tune=tune, prompt_tokens=3))
    images = batches(1)[0][0]
    other_copy, before = copy.deepcopy(backbone), backbone.features(images)
    with torch.no_grad():
        other_copy.model.get_submodule(NAME).tokens.add_(1)
    assert torch.equal(backbone.features(images), before)
    assert not torch.equal(other_copy.features(images), before)


def test_prompts_begin_as_in_the_reference():
    backbone = vit()
    choose(backbone, recipe(tune="vpt-deep", prompt_tokens=400))
    tokens, bound = backbone.model.get_submodule(NAME).tokens, math.sqrt(6 / (3 * 8 * 8 + WIDTH))
    assert tokens.abs().max() <= bound
    assert tokens.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert [name for name, weight in backbone.named_parameters() if weight.requires_grad] == [
        f"model.{NAME}.tokens"
    ]


# ---- modes, heads, blocks


def test_dropout_acts_in_what_is_added_alone():
    backbone = vit(proj_drop_rate=0.5)
    choose(backbone, recipe(tune="lora", tune_dropout=0.3))
    set_training(backbone, recipe(tune="lora", tune_dropout=0.3))
    active = {name.rpartition(".")[2] for name, module in backbone.named_modules() if module.training}
    assert active == {"lora_dropout"} or active == {"lora_dropout", "default"}
    assert any(isinstance(m, nn.Dropout) and m.p == 0.3 and m.training for m in backbone.modules())
    set_training(backbone, recipe(tune="lora", frozen_mode="train"))
    assert all(module.training for module in backbone.modules())


def test_all_is_as_it_was():
    backbone = vit()
    assert choose(backbone, recipe()) == []
    set_training(backbone, recipe())
    assert all(module.training for module in backbone.modules())
    assert all(weight.requires_grad for weight in backbone.parameters())


def test_heads():
    head = nn.Linear(600, 500)
    init_head(head, recipe(head_init="vpt"))
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 500), rel=0.02)
    assert head.bias.tolist() == pytest.approx([-math.log(99)] * 500)
    before = head.weight.clone()
    init_head(head, recipe(head_init="torch"))
    assert torch.equal(head.weight, before)
    init_head(head, recipe())
    assert not head.weight.any()
    assert not head.bias.any()


def test_blocks_of_networks():
    assert blocks_of(vit())[0] == "model.blocks"
    with pytest.raises(UsageError, match="no single row"):
        blocks_of(other("resnet18"))


def test_norms_are_decayed_without_biases_if_wanted():
    """By VPT's names: all but what has `bias` in its name (VPT:src/solver/optimizer.py)."""
    model = nn.Sequential(Features(vit()), nn.Linear(WIDTH, CLASSES))
    groups = parameter_groups(model, recipe(weight_decay=0.01, decay_vectors="norms", optimiser="adamw"))
    decayed = {id(weight) for group in groups if group["weight_decay"] for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert (id(weight) in decayed) is ("bias" not in name), name


def test_the_head_has_no_decayed_bias_and_vectors_are_decayed_if_wanted():
    for vectors in (False, True):
        trainer = Trainer(vit(), CLASSES, recipe(weight_decay=0.1, decay_vectors=vectors), dtype="float32")
        decays = {
            id(w): group["weight_decay"] for group in trainer.optimiser.param_groups for w in group["params"]
        }
        named = dict(trainer.model.named_parameters())
        assert decays[id(named["1.bias"])] == 0
        assert decays[id(named["1.weight"])] == 0.1
        assert decays[id(named["0.backbone.model.norm.bias"])] == (0.1 if vectors else 0)
        assert np.isclose(decays[id(named["0.backbone.model.blocks.0.attn.qkv.weight"])], 0.1)
