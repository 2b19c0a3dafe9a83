"""Models of torchvision, transformers and open_clip, and the choice of a ViT's tokens as features."""

import numpy as np
import pytest
import torch
import torchvision

from vitbench.backbones.check import check_backbone
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import BACKBONES

RNG = torch.Generator().manual_seed(0)


def made(spec, **options):
    return BACKBONES.make(spec, options)[1].eval()


def images(size):
    return torch.rand(2, 3, size, size, generator=RNG) * 2 - 1


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("mobilenet_v3_small", 64), ("swin_t", 64), ("vit_b_32", 64)]
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
    findings = check_backbone(f"hf:{saved / 'resnet'}")
    assert [finding for finding in findings if not finding.ok] == []
    assert made(f"hf:{saved / 'resnet'}").feature_dim == 16


def test_an_unknown_transformers_model_is_missing_data(tmp_path):
    with pytest.raises(DataMissingError, match="cannot be loaded"):
        made(f"hf:{tmp_path / 'none'}")


def test_an_image_encoder_of_open_clip():
    import open_clip

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
