"""Models of torchvision, transformers and open_clip, and the choice of a ViT's tokens as features."""

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision

from vitbench.backbones.build import build
from vitbench.backbones.check import check_backbone
from vitbench.backbones.models.hub import _activation
from vitbench.backbones.models.timm import own_resize
from vitbench.backbones.models.timm_activation import with_quick_gelu
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import BACKBONES
from vitbench.data.preprocess import preset_of

RNG = torch.Generator().manual_seed(0)


def made(spec, **options):
    return BACKBONES.make(spec, options)[1].eval()


def images(size):
    return torch.rand(2, 3, size, size, generator=RNG) * 2 - 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64),
        ("mobilenet_v3_small", 64),
        pytest.param("swin_t", 64, marks=pytest.mark.slow),
        pytest.param("vit_b_32", 64, marks=pytest.mark.slow),
    ],
)
def test_torchvision_features_are_the_input_of_the_head(name, size):
    findings = check_backbone(f"torchvision:{name}", {"pretrained": False, "size_px": size})
    assert [finding for finding in findings if not finding.ok] == []
    backbone = made(f"torchvision:{name}", pretrained=False, size_px=size, init_seed=3)
    whole = made(f"torchvision:{name}", pretrained=False, size_px=size, init_seed=3)
    batch = images(size)
    assert backbone.features(batch).shape == (2, backbone.feature_dim)
    assert torch.equal(backbone.features(batch), whole.features(batch))
    assert backbone.provenance.weights == "untrained"


def test_torchvision_uses_the_preprocessing_of_its_weights():
    backbone = made("torchvision:resnet50", pretrained=False, weights="IMAGENET1K_V2")
    how = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert backbone.input.size_px == how.crop_size[0]
    assert backbone.input.mean == tuple(how.mean)
    found = preset_of("torchvision", BuiltBackbone(backbone, "torchvision:resnet50", {}))
    assert (found.resize_px, found.crop_px, found.kernel) == (232, 224, "pil")
    assert (how.resize_size, how.interpolation.value) == ([232], "bilinear")
    with pytest.raises(UsageError, match="timm_eval"):
        preset_of("timm_eval", BuiltBackbone(backbone, "torchvision:resnet50", {}))


def test_a_local_checkpoint_of_torchvision_is_loaded(tmp_path):
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "r18.pth")
    backbone = made("torchvision:resnet18", checkpoint=str(tmp_path / "r18.pth"), size_px=64)
    batch = images(64)
    model.fc = torch.nn.Identity()
    assert torch.allclose(backbone.features(batch), model.eval()(batch))


def test_torchvision_mistakes_are_reported():
    with pytest.raises(UsageError, match="torchvision:resnet50"):
        made("torchvision:resnet5o", pretrained=False)
    with pytest.raises(UsageError, match="IMAGENET1K_V1"):
        made("torchvision:resnet18", weights="IMAGENET1K_V7")
    with pytest.raises(DataMissingError, match="connect to the internet once"):
        made("torchvision:resnet18")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny ViT and a tiny ResNet, saved by transformers."""
    from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("hf")
    vit = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    for name, model in (("vit", ViTModel(vit)), ("resnet", ResNetModel(resnet))):
        model.save_pretrained(folder / name)
        processor = ViTImageProcessor(
            size={"height": 32, "width": 32}, image_mean=[0.4] * 3, image_std=[0.3] * 3
        )
        processor.save_pretrained(folder / name)
    return folder


def test_a_transformers_model_uses_its_image_processor(saved):
    from transformers import ViTModel

    backbone = made(f"hf:{saved / 'vit'}", pretrain_data="nothing")
    assert backbone.input.size_px == 32
    assert backbone.input.mean == pytest.approx((0.4,) * 3)
    assert backbone.feature_dim == 24
    batch = images(32)
    with torch.no_grad():
        output = ViTModel.from_pretrained(saved / "vit").eval()(pixel_values=batch)
        assert torch.allclose(backbone.features(batch), output.pooler_output, atol=1e-6)
        token = made(f"hf:{saved / 'vit'}", pooling="class_token").features(batch)
        assert torch.allclose(token, output.last_hidden_state[:, 0], atol=1e-6)
        mean = made(f"hf:{saved / 'vit'}", pooling="patch_mean").features(batch)
        assert torch.allclose(mean, output.last_hidden_state[:, 1:].mean(1), atol=1e-6)


def test_a_convolutional_transformers_model_conforms(saved):
    findings = [
        f for f in check_backbone(f"hf:{saved / 'resnet'}") if f.item != "fits its BatchNorm"
    ]  # it is untrained
    assert [finding for finding in findings if finding.ok is False] == []
    assert made(f"hf:{saved / 'resnet'}").feature_dim == 16


def test_an_unknown_transformers_model_is_missing_data(tmp_path):
    with pytest.raises(DataMissingError, match="cannot be loaded"):
        made(f"hf:{tmp_path / 'none'}")


@pytest.mark.slow
def test_an_image_encoder_of_open_clip():

    backbone = made("open_clip:ViT-B-32", init_seed=1)
    assert backbone.input.size_px == 224
    assert backbone.input.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert (backbone.feature_dim, backbone.provenance.weights) == (512, "untrained")
    batch = images(224)
    with torch.no_grad():
        assert np.allclose(backbone.features(batch), made("open_clip:ViT-B-32", init_seed=1).features(batch))
    with pytest.raises(UsageError, match="unknown open_clip model"):
        made("open_clip:ViT-B-33")


VIT = {"pretrained": False, "size_px": 32, "patch_px": 8, "init_seed": 2}


def test_tokens_of_a_vit_are_chosen_as_dinov2_does():
    plain = made("timm:vit_tiny_patch16_224", **VIT)
    batch = images(32)
    with torch.no_grad():
        tokens = plain.model.forward_features(batch)
        found = {
            pooling: made("timm:vit_tiny_patch16_224", **VIT, pooling=pooling).features(batch)
            for pooling in ("class_token", "patch_mean", "class_token+patch_mean")
        }
        last_two = made("timm:vit_tiny_patch16_224", **VIT, last_layers=2)
        before = plain.model.patch_embed(batch)
        before = plain.model._pos_embed(before)
        for block in plain.model.blocks[:-1]:
            before = block(before)
        second = plain.model.norm(before)[:, 0]
        assert torch.allclose(found["class_token"], tokens[:, 0], atol=1e-6)
        assert torch.allclose(found["patch_mean"], tokens[:, 1:].mean(1), atol=1e-6)
        assert torch.allclose(
            found["class_token+patch_mean"], torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), atol=1e-6
        )
        assert torch.allclose(last_two.features(batch), torch.cat([second, tokens[:, 0]], 1), atol=1e-5)
    assert last_two.feature_dim == 2 * plain.feature_dim
    assert last_two.at_resolution(48).feature_dim == last_two.feature_dim


def test_models_without_class_token_have_no_choice_of_pooling():
    with pytest.raises(UsageError, match="has no class token"):
        made("timm:resnet10t", pretrained=False, pooling="patch_mean")
    with pytest.raises(UsageError, match="has 12 blocks"):
        made("timm:vit_tiny_patch16_224", **VIT, last_layers=13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size_px"), [("beit_base_patch16_224", 224), ("eva02_tiny_patch14_224", 224)]
)
def test_the_patch_mean_of_models_with_a_last_norm_is_what_their_head_is_put_on(name, size_px):
    own = made(f"timm:{name}", pretrained=False, init_seed=1)
    mean = made(f"timm:{name}", pretrained=False, init_seed=1, pooling="patch_mean")
    with torch.no_grad():
        for norm in (own.model.fc_norm, mean.model.fc_norm):
            norm.weight.copy_(torch.linspace(0.5, 2, len(norm.weight)))
        batch = images(size_px)
        assert torch.allclose(own.eval().features(batch), mean.eval().features(batch), atol=1e-5)


def test_clip_weights_run_with_the_activation_that_they_were_trained_with():
    """Both libraries have the weights under a name with GELU and a name with QuickGELU."""
    assert with_quick_gelu("vit_base_patch32_clip_224.openai") == "vit_base_patch32_clip_quickgelu_224.openai"
    assert with_quick_gelu("vit_huge_patch14_clip_378.dfn5b") == "vit_huge_patch14_clip_quickgelu_378.dfn5b"
    for kept in (
        "vit_base_patch32_clip_224.laion2b", "vit_base_patch32_clip_224", "vit_base_patch16_clip_224.openai_ft_in1k",
        "vit_base_patch32_clip_quickgelu_224.openai", "resnet50_clip.openai", "resnet10t",
    ):  # fmt: skip
        assert with_quick_gelu(kept) == kept
    assert _activation(open_clip, "ViT-B-32", "openai") == {"quick_gelu": True}
    assert _activation(open_clip, "ViT-B-32", "laion2b_s34b_b79k") == {"quick_gelu": False}
    assert _activation(open_clip, "ViT-B-32", "my.pt") == {}


def test_open_clip_builds_the_activation_that_it_is_told():
    for name, quick in (("ViT-B-32", True), ("ViT-B-32-quickgelu", False)):
        visual = open_clip.create_model(name, quick_gelu=quick).visual
        assert ("QuickGELU" in {type(module).__name__ for module in visual.modules()}) is quick


def dinov2s_way(embedding, old, new, *, antialias, offset):
    """DINOv2's interpolate_pos_encoding, written from its source: by factors with the offset, by sizes without."""
    plane = embedding[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    how = {"scale_factor": ((new + offset) / old,) * 2} if offset else {"size": (new, new)}
    resized = torch.nn.functional.interpolate(plane, mode="bicubic", antialias=antialias, **how)
    return torch.cat([embedding[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_small_patch14_dinov2", {"antialias": False, "offset": 0.1}),
        ("vit_small_patch14_reg4_dinov2", {"antialias": True, "offset": 0.0}),
    ],
)
def test_dinov2s_position_embeddings_are_resized_as_in_its_own_code(name, options):
    big = made(f"timm:{name}", pretrained=False, size_px=140)
    small = big.at_resolution(98)
    old, new = big.model.pos_embed.detach(), small.model.pos_embed.detach()
    if "reg4" in name:  # timm keeps the class token's apart
        old, new = (torch.cat([torch.zeros(1, 1, 384), part], 1) for part in (old, new))
    assert torch.allclose(new, dinov2s_way(old, 10, 7, **options), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("vit_base_patch16_224.orig_in21k", "aligned"), ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "aligned"),
        ("vit_tiny_patch16_224", "aligned"), ("vit_base_patch16_224.mae", "timm"), ("deit_small_patch16_224.fb_in1k", "timm"),
        ("vit_base_patch14_dinov2.lvd142m", "dinov2"), ("vit_base_patch14_reg4_dinov2.lvd142m", "timm"),
        ("vit_base_patch16_clip_224.openai", "timm"), ("vit_base_patch16_siglip_224.webli", "timm"),
    ],
)  # fmt: skip
def test_position_embeddings_are_resized_by_the_way_of_the_weights_authors(name, how):
    assert own_resize(name) == how


@pytest.mark.slow
def test_a_size_that_an_architecture_does_not_take_is_refused_with_its_own():
    with pytest.raises(UsageError, match=r"does not work at 256 px.*\n.*its own is 224 px"):
        made("timm:resmlp_12_224", pretrained=False, size_px=256)
    with pytest.raises(UsageError, match="encoder without pre-logits"):
        made("timm:mobilenetv5_300m_enc", pretrained=False)


def test_facts_can_be_stated_beside_any_backbone(tmp_path):
    stated = {"pretrain_data": "my images", "trained_on": ["cifar10"], "licence": "MIT", "source": "thesis"}
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pth")
    for spec, options in (
        ("timm:resnet10t", {"checkpoint": tmp_path / "w.pth"}), ("torchvision:resnet18", {"pretrained": False}),
        ("raw_pixels", {}),
    ):  # fmt: skip
        origin = build(spec, {**options, **stated}).provenance
        assert (origin.pretrain_data, origin.trained_on) == ("my images", ("cifar10",))
        assert (origin.licence, origin.source) == ("MIT", "thesis")
    assert build("timm:resnet10t", {"checkpoint": tmp_path / "w.pth"}).provenance.trained_on is None
    assert build("timm:resnet10t", {"pretrained": False}).provenance.trained_on == ()
    assert build("raw_pixels", {"trained_on": "cifar10"}).provenance.trained_on == ("cifar10",)


def test_a_data_set_that_no_task_uses_is_a_mistake_with_the_nearest_name():
    with pytest.raises(UsageError, match="no task uses a data set 'imagenet'") as caught:
        build("raw_pixels", {"trained_on": ["imagenet"]})
    assert "imagenet2012" in caught.value.problems[0].nearest


def test_averaged_weights_of_a_torchvision_checkpoint_are_taken_or_refused(tmp_path):
    ema, raw = (torchvision.models.resnet18().state_dict() for _ in range(2))
    torch.save(
        {
            "model": raw,
            "model_ema": {f"module.{k}": v for k, v in ema.items()} | {"n_averaged": torch.ones(1)},
        },
        tmp_path / "w.pth",
    )
    for weights, state in (("DEFAULT", ema), ("ema", ema), ("raw", raw)):
        backbone = made("torchvision:resnet18", checkpoint=tmp_path / "w.pth", weights=weights)
        assert torch.equal(backbone.model.conv1.weight, state["conv1.weight"])
    assert (
        "model_ema.module, not model"
        in made("torchvision:resnet18", checkpoint=tmp_path / "w.pth").provenance.load.taken
    )
    torch.save({"model": raw}, tmp_path / "r.pth")
    with pytest.raises(UsageError, match="has no averaged weights"):
        made("torchvision:resnet18", checkpoint=tmp_path / "r.pth", weights="ema")


@pytest.mark.slow
def test_a_checkpoint_of_open_clip_is_reported_with_its_text_encoder_left_out(tmp_path):
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), tmp_path / "w.pt")
    origin = made("open_clip:ViT-B-32", weights=str(tmp_path / "w.pt")).provenance
    assert origin.load.in_file > origin.load.used > 100
    assert "transformer… (144)" in origin.load.left_out
    assert origin.trained_on is None
    assert "does not say how pixels" in origin.pixels_unknown
    with pytest.raises(UsageError, match="saved from this architecture"):
        made("open_clip:ViT-B-16", weights=str(tmp_path / "w.pt"))


def test_torchvisions_own_weights_are_reported(monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_args, **_options: state
    )
    origin = made("torchvision:resnet18").provenance
    assert (origin.load.in_file, origin.load.used, origin.load.left_out) == (
        122,
        120,
        ("fc.bias", "fc.weight"),
    )
    assert origin.trained_on == ("imagenet2012",)
