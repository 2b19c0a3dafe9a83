"""Tokens and the outputs of the last blocks: equal to timm's, transformers' and DINOv2's own, whatever tokens a network has."""

import pytest
import timm
import torch
import transformers
from torch import nn

from tests.making import npz
from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.hf import TransformersBackbone
from vitbench.backbones.models.npz import load
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_create import TimmModel
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.token_check import token_finding
from vitbench.core.errors import UsageError
from vitbench.core.tokens import Tokens

HALF = (0.5, 0.5, 0.5)
ORIGIN = Provenance("Test", "untrained", "none", "test")
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 0}


def images(count=3, size_px=32):
    return torch.randn(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def moved(module):
    """Every weight away from its initial value, so that norms do something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return module.eval()


def vit(**options):
    model = moved(timm.models.VisionTransformer(**{**SMALL, **options}))
    model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": HALF, "std": HALF}
    return model


def of_timm(model, name="vit_tiny_patch16_224"):
    return BuiltBackbone(TimmBackbone(TimmModel(model, name, ORIGIN), 32), "test", {}).eval()


NETWORKS = {
    "class token": ({}, True, 0),
    "registers": ({"reg_tokens": 4}, True, 4),
    "no class token": ({"class_token": False, "global_pool": "avg", "fc_norm": False}, False, 0),
    "registers alone": ({"class_token": False, "reg_tokens": 2, "global_pool": "avg", "fc_norm": False}, False, 2),
    "norm behind pooling": ({"global_pool": "avg"}, True, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_are_timms_after_the_final_norm(name):
    options, has_class, registers = NETWORKS[name]
    model = vit(**options)
    backbone, shown = of_timm(model), images()
    with torch.no_grad():
        own = model.fc_norm(model.forward_features(shown))
        assert torch.equal(backbone.tokens(shown), own)
        blocks = backbone.last_blocks(shown, 3)
        every = [backbone.last_blocks(shown, count)[-1] for count in (1, 2, 3)]
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(shown))))
        for block, found in zip(model.blocks, blocks, strict=True):
            x = block(x)
            wanted = model.fc_norm(model.norm(x))
            first = 1 if has_class else 0
            if has_class:
                assert torch.equal(found.class_token, wanted[:, 0])
            else:
                assert found.class_token is None
            assert torch.equal(found.registers, wanted[:, first : first + registers])
            assert torch.equal(found.patches, wanted[:, first + registers :])
    assert found.patches.shape == (3, 16, 24)
    assert all(torch.equal(each.patches, found.patches) for each in every)


@pytest.mark.parametrize(
    ("name", "places"),
    [("resnet10t", 1), ("resnetv2_50x1_bit", 1), ("convnext_atto", 1), ("mobilenetv3_small_050", 1)],
)
def test_tokens_of_a_convolutional_network_are_the_places_of_its_final_feature_map(name, places):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    backbone, shown = of_timm(model, name), images(2, 64)
    with torch.no_grad():
        own = model.forward_features(shown)
        assert torch.equal(backbone.tokens(shown), own.flatten(2).mT)
        assert backbone.tokens(shown).shape[1] == own.shape[2] * own.shape[3] == 4 * places
        with pytest.raises(UsageError, match="no row of blocks"):
            backbone.last_blocks(shown, 2)


def test_tokens_of_a_network_whose_map_has_channels_last():
    torch.manual_seed(0)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, img_size=64, window_size=2, embed_dim=12
    ).eval()
    backbone = of_timm(model, "swin_tiny_patch4_window7_224")
    with torch.no_grad():
        own = model.forward_features(images(2, 64))
        assert torch.equal(backbone.tokens(images(2, 64)), own.reshape(2, 4, 96))


def test_more_blocks_than_there_are_and_a_late_class_token_are_refused():
    with pytest.raises(UsageError, match="3 blocks, fewer than the 4"):
        of_timm(vit()).last_blocks(images(), 4)
    cait = timm.create_model(
        "cait_xxs24_224", num_classes=0, img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=3
    )
    backbone = of_timm(cait.eval(), "cait_xxs24_224")
    assert backbone.tokens(images()).shape == (3, 17, 24)
    with pytest.raises(UsageError, match="no row of blocks"):
        backbone.last_blocks(images(), 2)


CONFIG = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
MODELS = {
    "ViT": ({}, 1, 0),
    "Dinov2": ({"mlp_ratio": 2}, 1, 0),
    "Dinov2WithRegisters": ({"mlp_ratio": 2, "num_register_tokens": 4}, 1, 4),
    "DeiT": ({}, 1, 1),
    "SiglipVision": ({}, 0, 0),
    "CLIPVision": ({}, 1, 0),
    "DINOv3ViT": ({"num_register_tokens": 4}, 1, 4),
}


def of_transformers(name, **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**CONFIG, **options})
    model = moved(getattr(transformers, f"{name}Model")(config))
    model = getattr(model, "vision_model", model)
    spec = InputSpec(32, HALF, HALF)
    return BuiltBackbone(TransformersBackbone(model, "", spec, "own", ORIGIN), "test", {}).eval(), model


def rows_of_blocks(model):
    """The model's list of blocks, wherever it is."""
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_transformers_after_the_final_norm(name):
    options, class_tokens, registers = MODELS[name]
    backbone, model = of_transformers(name, **options)
    shown = images()
    norm = next(
        getattr(model, each) for each in ("layernorm", "post_layernorm", "norm") if hasattr(model, each)
    )
    outputs = []
    for block in rows_of_blocks(model):
        block.register_forward_hook(
            lambda _m, _i, out: outputs.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.no_grad():
        found = backbone.last_blocks(shown, 3)
        blocks = [norm(each) for each in outputs[:3]]
        last = model(pixel_values=shown).last_hidden_state
        assert torch.equal(backbone.tokens(shown), last if name != "CLIPVision" else norm(last))
    for tokens, wanted in zip(found, blocks, strict=True):
        assert (tokens.class_token is None) == (class_tokens == 0)
        if class_tokens:
            assert torch.equal(tokens.class_token, wanted[:, 0])
        assert torch.equal(tokens.registers, wanted[:, class_tokens : class_tokens + registers])
        assert torch.equal(tokens.patches, wanted[:, class_tokens + registers :])
        assert tokens.patches.shape == (3, 16, 24)
    with pytest.raises(UsageError, match="3 blocks, fewer than the 5"):
        backbone.last_blocks(shown, 5)


def test_tokens_of_a_convolutional_transformers_model():
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1] * 4)
    model = transformers.ConvNextModel(config).eval()
    backbone = BuiltBackbone(
        TransformersBackbone(model, "", InputSpec(64, HALF, HALF), "own", ORIGIN), "test", {}
    )
    with torch.no_grad():
        shown = images(3, 64)
        own = model(pixel_values=shown).last_hidden_state
        assert torch.equal(backbone.tokens(shown), own.flatten(2).mT)
        with pytest.raises(UsageError, match="no row of blocks"):
            backbone.last_blocks(shown, 2)


@pytest.mark.parametrize(("golden", "letter"), [("vit_a", "a"), ("vit_map", "map")])
def test_tokens_of_an_npz_checkpoint_come_before_its_pooling(golden, letter, tmp_path):
    path = npz.saved(npz.weights(npz.golden(golden)["spec"], letter), tmp_path, "x.npz")
    backbone = load(path)
    size_px = backbone.input.size_px
    built = BuiltBackbone(backbone, "test", {})
    with torch.no_grad():
        shown = images(3, size_px)
        assert torch.equal(built.tokens(shown), backbone.model.forward_features(shown))
        (tokens,) = built.last_blocks(shown, 1)
        assert (tokens.class_token is None) == (golden == "vit_map")


class Plain(nn.Module):
    """A plugin's network: features alone, or tokens, too."""

    def __init__(self):
        super().__init__()
        self.input, self.feature_dim = InputSpec(8, HALF, HALF), 3

    def features(self, images):
        return images.mean((2, 3))


class WithTokens(Plain):
    def tokens(self, images):
        return images.flatten(2).mT


class Flat(Plain):
    def tokens(self, images):
        return images.flatten(1)


class TooMany(Plain):
    def last_blocks(self, images, count):
        tokens = images.flatten(2).mT
        return (Tokens(None, tokens[:, :0], tokens),) * 2


class Layer(Plain):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Linear(3, 3)


def test_tokens_of_other_shapes_are_refused():
    shown = images(2, 8)
    with pytest.raises(UsageError, match=r"tokens gave tokens of shape \(2, 192\) for 2 images"):
        BuiltBackbone(Flat(), "f", {}).tokens(shown)
    with pytest.raises(UsageError, match="last_blocks gave 2 blocks, not 1"):
        BuiltBackbone(TooMany(), "m", {}).tokens(shown)
    with pytest.raises(UsageError, match="does not offer its tokens"):
        BuiltBackbone(Layer(), "l", {}).tokens(shown)


class Leaking(WithTokens):
    def tokens(self, images):
        return super().tokens(images) - images.mean()


@pytest.mark.parametrize(
    ("kind", "ok", "said"),
    [
        (Plain, None, ""),
        (WithTokens, True, "64 of width 3"),
        (Flat, False, "of shape (2, 192)"),
        (Leaking, False, "with the batch that it is in"),
    ],
)
def test_check_looks_at_tokens_that_are_offered(kind, ok, said):
    found = token_finding(BuiltBackbone(kind(), "x", {}))
    assert (found and found.ok) == ok
    assert said in (found.text if found else "")


def test_plugins_may_offer_tokens():
    shown = images(2, 8)
    plain, offering = BuiltBackbone(Plain(), "p", {}), BuiltBackbone(WithTokens(), "t", {})
    with pytest.raises(UsageError, match="'p' does not offer its tokens"):
        plain.tokens(shown)
    assert torch.equal(offering.tokens(shown), shown.flatten(2).mT)
    (tokens,) = offering.last_blocks(shown, 1)
    assert tokens.class_token is None
    assert torch.equal(tokens.patches, shown.flatten(2).mT)
    with pytest.raises(UsageError, match="tokens of 4 blocks"):
        offering.last_blocks(shown, 4)
