"""`hf:` features are what the checkpoint's own classifier takes as input, whatever transformers makes of the file."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vitbench.backbones.check import check_backbone
from vitbench.backbones.models.hf import prefix_tokens
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES

VIT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
SWIN = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 12,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
FOUR = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4}
CLASSIFIERS = {
    "ViT": VIT,
    "DeiT": VIT,
    "Beit": VIT,
    "Dinov2": VIT | {"mlp_ratio": 2},
    "Dinov2WithRegisters": VIT | {"mlp_ratio": 2, "num_register_tokens": 4},
    "ViTMSN": VIT,
    "Data2VecVision": VIT,
    "Swin": SWIN,
    "ResNet": STAGES,
    "RegNet": STAGES | {"groups_width": 4},
    "Bit": STAGES | {"hidden_sizes": [16, 32], "num_groups": 4},
    "ConvNext": {"hidden_sizes": [8, 12, 16, 20], "depths": [1] * 4},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "Pvt": FOUR | {"image_size": 32, "num_attention_heads": [1, 1, 2, 2]},
    "PoolFormer": FOUR,
}


def save(folder, model):
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size, image_mean=[0.4] * 3, image_std=[0.3] * 3).save_pretrained(
        folder
    )
    return folder


def made(folder, **options):
    return BACKBONES.make(f"hf:{folder}", options)[1].eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def classifier(name):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**CLASSIFIERS[name], num_labels=5)
    return getattr(transformers, f"{name}ForImageClassification")(config).eval()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_features_are_the_input_of_the_checkpoints_classifier(name, tmp_path, images):
    model = classifier(name)
    head = model.classifier[-1] if isinstance(model.classifier, torch.nn.Sequential) else model.classifier
    seen = []
    head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    backbone = made(save(tmp_path, model))
    with torch.no_grad():
        logits = model(pixel_values=images).logits
        features = backbone.features(images)
        assert torch.allclose(features, seen[0].flatten(1), atol=1e-6)
        assert torch.allclose(head(features), logits, atol=1e-5)
    assert backbone.provenance.load.unused == ()


def test_a_vit_without_pooler_weights_has_the_class_token(tmp_path, images):
    """transformers would add a randomly initialised pooler."""
    torch.manual_seed(0)
    bare = transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).eval()
    backbone = made(save(tmp_path, bare))
    with torch.no_grad():
        token = bare(pixel_values=images).last_hidden_state[:, 0]
        assert torch.allclose(backbone.features(images), token, atol=1e-6)
    assert [finding for finding in check_backbone(f"hf:{tmp_path}") if finding.ok is False] == []


def test_a_pooler_whose_weights_are_there_is_used(tmp_path, images):
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**VIT)).eval()
    backbone = made(save(tmp_path, model))
    with torch.no_grad():
        pooled = model(pixel_values=images).pooler_output
        assert torch.allclose(backbone.features(images), pooled, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "prefix"), [("ViT", 1), ("DeiT", 2), ("Dinov2", 1), ("Dinov2WithRegisters", 5)]
)
def test_patch_means_leave_out_all_prefix_tokens(name, prefix, tmp_path, images):
    model = classifier(name)
    save(tmp_path, model)
    encoder = getattr(model, model.base_model_prefix)
    with torch.no_grad():
        states = encoder(pixel_values=images).last_hidden_state
        assert prefix_tokens(encoder, 32, states.shape[1]) == prefix
        mean = made(tmp_path, pooling="patch_mean").features(images)
        token = made(tmp_path, pooling="class_token").features(images)
    assert torch.allclose(mean, states[:, prefix:].mean(1), atol=1e-6)
    assert torch.allclose(token, states[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", ["Swin", "ResNet"])
def test_a_model_without_class_token_says_so(name, tmp_path):
    save(tmp_path, classifier(name))
    with pytest.raises(UsageError, match="has no class token"):
        made(tmp_path, pooling="class_token")


def test_a_masked_autoencoder_sees_all_patches(tmp_path, images):
    torch.manual_seed(0)
    mae = transformers.ViTMAEModel(transformers.ViTMAEConfig(**VIT)).eval()
    backbone = made(save(tmp_path, mae))
    # The same weights in an ordinary ViT: MAE's encoder differs from it in the masking alone.
    vit = transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).eval()
    vit.load_state_dict(mae.state_dict())
    with torch.no_grad():
        wanted = vit(pixel_values=images).last_hidden_state
        assert torch.allclose(backbone.features(images), wanted[:, 0], atol=1e-5)
        mean = made(tmp_path, pooling="patch_mean").features(images)
        assert torch.allclose(mean, wanted[:, 1:].mean(1), atol=1e-5)
    assert [finding for finding in check_backbone(f"hf:{tmp_path}") if finding.ok is False] == []


@pytest.mark.parametrize("part", ["encoder", "embeddings", "layernorm"])
def test_a_missing_weight_is_an_error_that_names_it(part, tmp_path):
    save(tmp_path, classifier("ViT"))
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    lost = next(name for name in sorted(weights) if part in name)
    save_file({name: value for name, value in weights.items() if name != lost}, file, {"format": "pt"})
    # transformers renames a layer's weights as it loads them; the last component stays.
    with pytest.raises(UsageError, match=rf"lacks 1 weights.*\.{lost.rpartition('.')[2]}\b"):
        made(tmp_path)
