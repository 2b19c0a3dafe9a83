"""`hf:` features equal what transformers itself computes, for tiny models of its vision architectures and processors."""

import pytest
import timm
import torch
import transformers
from torch import nn

from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES

pytestmark = pytest.mark.slow

CLASSES = 7
PIXELS = {"image_mean": [0.4, 0.45, 0.5], "image_std": [0.2, 0.25, 0.3]}
SIZE, EDGE = {"height": 32, "width": 32}, {"shortest_edge": 36}
CROPPED = {"size": EDGE, "crop_size": SIZE}
LARGE = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 64,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
TWO_TOWERS = {"vision_config": VIT, "text_config": TEXT}
NAFLEX = {key: value for key, value in VIT.items() if key != "image_size"} | {"num_patches": 16}
FOUR = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4}
PYRAMID = FOUR | {"num_attention_heads": [1, 2, 2, 4]}
SWIN = {
    "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
}  # fmt: skip
CVT = {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}
HIERA = {
    "image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "num_query_pool": 2,
    "masked_unit_size": [4, 4], "masked_unit_attention": [True, True, False],
}  # fmt: skip
PERCEIVER = {
    "num_latents": 4, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 1, "image_size": 32,
    "num_self_attention_heads": 2, "num_cross_attention_heads": 1,
}  # fmt: skip
EFFICIENTNET = {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}
MOBILEVIT = {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}
MOBILEVIT2 = {
    "image_size": 64, "width_multiplier": 0.125, "n_attn_blocks": [1] * 3, "base_attn_unit_dims": [16] * 3,
}  # fmt: skip
LEVIT = {
    "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2], "depths": [1] * 3,
    "key_dim": [8] * 3,
}  # fmt: skip
HGNET = {
    "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 24, 32], "stage_mid_channels": [8] * 4,
    "stage_out_channels": [16, 24, 32, 40], "stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4,
    "hidden_sizes": [16, 24, 32, 40], "embedding_size": 8, "depths": [1] * 4,
}  # fmt: skip
TEXTNET = {
    "image_size": 32, "stem_out_channels": 8, "hidden_sizes": [8, 8, 16, 24, 32],
    "conv_layer_kernel_sizes": [[[3, 3]]] * 4, "conv_layer_strides": [[2]] * 4,
}  # fmt: skip
FOCAL = {
    "embed_dim": 16,
    "depths": [1, 1],
    "hidden_sizes": [16, 32],
    "focal_levels": [1, 1],
    "focal_windows": [3, 3],
}
RGB = {"do_flip_channel_order": False}

# Name: image processor and its options, configuration; the model is NAMEForImageClassification.
CLASSIFIERS = {
    "ViT": ("ViT", {"size": SIZE}, VIT),
    "DeiT": ("DeiT", {"size": {"height": 36, "width": 36}, "crop_size": SIZE}, VIT),  # a distillation token
    "Beit": ("Beit", {"size": SIZE}, VIT),
    "Data2VecVision": ("Beit", {"size": SIZE}, VIT),
    "Dinov2": ("Bit", CROPPED, VIT | {"mlp_ratio": 2}),
    "Dinov2WithRegisters": ("Bit", CROPPED, VIT | {"mlp_ratio": 2, "num_register_tokens": 4}),
    "ViTMSN": ("ViT", {"size": SIZE}, VIT),
    "IJepa": ("ViT", {"size": SIZE}, VIT),  # no class token
    "Swin": ("ViT", {"size": SIZE}, SWIN),
    "Swinv2": ("ViT", {"size": SIZE}, SWIN),
    "DonutSwin": ("ViT", {"size": SIZE}, SWIN),
    "FocalNet": ("Bit", CROPPED, FOCAL | {"image_size": 32}),
    "Hiera": ("Bit", LARGE, HIERA),
    "ConvNext": ("ConvNext", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}, FOUR),
    "ConvNextV2": ("ConvNext", {"size": {"shortest_edge": 32}}, FOUR),
    "Cvt": ("ConvNext", {"size": {"shortest_edge": 32}}, CVT),
    "ResNet": ("ConvNext", {"size": {"shortest_edge": 32}}, FOUR | {"embedding_size": 8}),
    "RegNet": ("ConvNext", {"size": {"shortest_edge": 32}}, FOUR | {"embedding_size": 8, "groups_width": 4}),
    "Bit": (
        "Bit",
        CROPPED,
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "num_groups": 4},
    ),
    "EfficientNet": ("EfficientNet", {"size": SIZE, "include_top": False}, EFFICIENTNET),
    "MobileNetV1": ("MobileNetV1", CROPPED, {"depth_multiplier": 0.25, "image_size": 32}),
    "MobileNetV2": ("MobileNetV2", CROPPED, {"depth_multiplier": 0.35, "image_size": 32}),
    "MobileViT": ("ConvNext", {"size": {"shortest_edge": 64}}, MOBILEVIT),
    "MobileViTV2": ("ConvNext", {"size": {"shortest_edge": 64}}, MOBILEVIT2),
    "Levit": ("Levit", {"size": {"shortest_edge": 64}, "crop_size": LARGE["crop_size"]}, LEVIT),
    "PoolFormer": ("PoolFormer", {"size": {"shortest_edge": 32}, "crop_size": SIZE, "crop_pct": 0.9}, FOUR),
    "Pvt": ("Pvt", {"size": SIZE}, PYRAMID | {"image_size": 32}),
    "PvtV2": ("Pvt", {"size": SIZE}, PYRAMID | {"image_size": 32}),
    "Segformer": ("Segformer", {"size": SIZE}, PYRAMID),
    "SwiftFormer": (
        "ViT",
        {"size": SIZE},
        {"image_size": 32, "depths": [1] * 4, "embed_dims": [8, 16, 24, 32]},
    ),
    "TextNet": ("TextNet", {"size": {"shortest_edge": 32}}, TEXTNET),
    "HGNetV2": ("ViT", {"size": SIZE}, HGNET),
    "PPLCNet": ("ViT", {"size": SIZE}, {"scale": 0.25, "class_expand": 48}),
    "CLIP": ("CLIP", CROPPED, TWO_TOWERS),
    "MetaClip2": ("CLIP", CROPPED, TWO_TOWERS),
    "Siglip": ("Siglip", {"size": SIZE}, TWO_TOWERS),
}
# Name: processor, configuration, and the features of the model's output: the pooled output, or the documented token.
POOLED, CLASS_TOKEN = (lambda out: out.pooler_output.flatten(1)), (lambda out: out.last_hidden_state[:, 0])
TOKEN_MEAN = lambda out: out.last_hidden_state.mean(1)  # noqa: E731
ENCODERS = {
    "ViT": (VIT, POOLED),
    "Beit": (VIT, POOLED),
    "Dinov2": (VIT | {"mlp_ratio": 2}, POOLED),
    "Dinov2WithRegisters": (VIT | {"mlp_ratio": 2, "num_register_tokens": 4}, POOLED),
    "DINOv3ViT": (VIT | {"num_register_tokens": 4}, POOLED),
    "DINOv3ConvNext": (FOUR | {"image_size": 32}, POOLED),
    "ViTMSN": (VIT, CLASS_TOKEN),
    "IJepa": (VIT, TOKEN_MEAN),
    "Pixio": (VIT | {"n_cls_tokens": 8}, POOLED),
    "Swin": (SWIN, POOLED),
    "Data2VecVision": (VIT, CLASS_TOKEN),
    "ConvNext": (FOUR, POOLED),
    "ResNet": (FOUR | {"embedding_size": 8}, POOLED),
    "Cvt": (CVT, lambda out: out.cls_token_value.flatten(1)),
    "Segformer": (PYRAMID, lambda out: out.last_hidden_state.mean((2, 3))),
    "CLIP": (TWO_TOWERS, POOLED),
    "CLIPVision": (VIT, POOLED),
    "Siglip": (TWO_TOWERS, POOLED),
    "SiglipVision": (VIT, POOLED),
    "MLCDVision": (VIT, POOLED),
    "Aimv2Vision": (VIT, POOLED),
    "Aimv2Vision without head": (VIT | {"use_head": False}, TOKEN_MEAN),
    "Yolos": (VIT | {"image_size": [32, 32], "num_detection_tokens": 3}, POOLED),
}


@torch.no_grad()
def stirred(model):
    """The model with random weights of unit gain, biases and norms included, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("running_var"):
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2:
                tensor.add_(noise, alpha=0.1)
            else:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        model(pixel_values=(pictures(64, 8) / 255 - 0.45) / 0.25)
        for norm in norms:
            norm.running_var[norm.running_var < 1e-4] = 1.0  # channels that images do not tell apart
    return model.eval()


def pictures(size_px, count=2):
    """Images of large coloured patches, uint8."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, (size_px, size_px), mode="nearest") * 255).to(torch.uint8)


def saved_processor(folder, name, options):
    kind = getattr(transformers, f"{name}ImageProcessor")
    kind(**PIXELS | options).save_pretrained(folder)
    return transformers.AutoImageProcessor.from_pretrained(folder)


def processed(processor, images):
    """Pixels as the processor gives them to the model, of images that have its output size already."""
    return processor(list(images), return_tensors="pt", do_resize=False, do_center_crop=False)[
        "pixel_values"
    ].float()


def made(folder, **options):
    return BACKBONES.make(f"hf:{folder}", options)[1].eval()


def features_of(backbone, processor):
    """Features of pictures that are normalised by what the backbone declares; its image size is the processor's."""
    output = processor(list(pictures(96, 1)), return_tensors="pt")["pixel_values"]
    size_px = backbone.input.size_px
    assert output.shape == (1, 3, size_px, size_px)
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.input.mean, backbone.input.std))
    with torch.no_grad():
        return backbone.features((pictures(size_px) / 255 - mean) / std)


def assert_same(found, wanted):
    assert found.shape == wanted.shape
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3 * wanted.abs().max()  # the features depend on the image
    assert (found - wanted).abs().max() <= 1e-5 * max(1, wanted.abs().max())


def classifier(name, options=None):
    """A tiny classifier of an architecture, with seeded random weights."""
    architecture = name.partition(" ")[0]
    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(**CLASSIFIERS[name][2], **(options or {}))
    config.num_labels = CLASSES
    return stirred(getattr(transformers, f"{architecture}ForImageClassification")(config))


def classifier_input(folder, pixels):
    """What the last linear layer of the freshly loaded checkpoint takes as input."""
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    heads = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == CLASSES
    ]
    assert heads[-1].weight.abs().min() > 0
    seen = []
    heads[-1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(1)))
    with torch.no_grad():
        model(pixel_values=pixels)
    return seen[0]


def test_at_least_thirty_architectures_are_tried():
    tried = {name for name in CLASSIFIERS if hasattr(transformers, f"{name}ForImageClassification")}
    assert len(tried) >= 30


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_features_are_the_input_of_the_checkpoints_classifier(name, tmp_path):
    classifier(name).save_pretrained(tmp_path)
    processor = saved_processor(tmp_path, *CLASSIFIERS[name][:2])
    backbone = made(tmp_path)
    wanted = classifier_input(tmp_path, processed(processor, pictures(backbone.input.size_px)))
    assert_same(features_of(backbone, processor), wanted)
    assert backbone.feature_dim == wanted.shape[1]


@pytest.mark.parametrize("name", ENCODERS)
def test_without_classifier_features_are_the_pooled_output_or_the_documented_token(name, tmp_path):
    config, pool = ENCODERS[name]
    architecture = name.partition(" ")[0]
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture}Model")(
        getattr(transformers, f"{architecture}Config")(**config)
    )
    stirred(getattr(model, "vision_model", model))
    model.save_pretrained(tmp_path)
    processor = saved_processor(tmp_path, "CLIP", CROPPED)
    fresh = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = pool(getattr(fresh, "vision_model", fresh)(pixel_values=processed(processor, pictures(32))))
    assert_same(features_of(made(tmp_path), processor), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_in_half_precision_is_computed_in_single_precision(dtype, tmp_path):
    classifier("ViT").to(dtype).save_pretrained(tmp_path)
    processor = saved_processor(tmp_path, "ViT", {"size": SIZE})
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = model.vit(pixel_values=processed(processor, pictures(32))).last_hidden_state[:, 0]
    assert_same(features_of(made(tmp_path), processor), wanted)


def test_an_autoencoder_saved_with_its_decoder_sees_all_patches(tmp_path):
    torch.manual_seed(0)
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 32}
    config = transformers.ViTMAEConfig(**VIT, **decoder, decoder_num_attention_heads=2)
    whole = transformers.ViTMAEForPreTraining(config)
    stirred(whole.vit).eval()
    whole.save_pretrained(tmp_path)
    processor = saved_processor(tmp_path, "ViT", {"size": SIZE})
    vit = transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).eval()
    vit.load_state_dict(whole.vit.state_dict())
    with torch.no_grad():
        wanted = vit(pixel_values=processed(processor, pictures(32))).last_hidden_state[:, 0]
    assert_same(features_of(made(tmp_path), processor), wanted)


# ---------------------------------------------------------------- what processors do to pixels

# Field: processor and options, a classifier. What vitbench cannot honour it has to refuse by the field's name.
FIELDS = {
    "do_normalize": ("ViT", {"size": SIZE, "do_normalize": False}),
    "do_rescale": ("ViT", {"size": SIZE, "do_rescale": False, "image_mean": [110.0] * 3, "image_std": [60.0] * 3}),
    "do_rescale, do_normalize": ("ViT", {"size": SIZE, "do_rescale": False, "do_normalize": False}),
    "rescale_factor": ("ViT", {"size": SIZE, "rescale_factor": 1 / 127.5}),
    "rescale_factor, do_normalize": ("ViT", {"size": SIZE, "rescale_factor": 1 / 127.5, "do_normalize": False}),
    "rescale_offset": (
        "EfficientNet", {"size": SIZE, "include_top": False, "rescale_factor": 1 / 127.5, "rescale_offset": True},
    ),
    "include_top": ("EfficientNet", {"size": SIZE, "include_top": True}),
    "do_flip_channel_order": ("MobileViT", CROPPED | {"do_flip_channel_order": True}),
    "do_normalize of MobileViT": ("MobileViT", CROPPED | RGB),
    "image_mean": ("ViT", {"size": SIZE, "image_mean": 0.5, "image_std": 0.25}),
    "size": ("ViT", {"size": {"height": 32, "width": 48}}),
    "size of longest_edge": ("ViT", {"size": {"shortest_edge": 32, "longest_edge": 32}}),
    "size of max_height": ("ViT", {"size": {"max_height": 32, "max_width": 32}}),
    "crop_size": ("Perceiver", {"size": SIZE, "crop_size": {"height": 36, "width": 36}}),
    "crop_size not square": (
        "ViT", {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 40}},
    ),
    "do_pad": ("ViT", {"size": {"height": 24, "width": 24}, "do_pad": True, "pad_size": SIZE}),
    "do_resize": ("ViT", {"size": {"height": 64, "width": 64}, "do_resize": False}),
    "size_divisor": ("TextNet", {"size": {"shortest_edge": 28}, "size_divisor": 32}),
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
def test_every_field_of_a_processor_is_honoured_or_refused_by_name(case, tmp_path):
    fields = case.partition(" of ")[0].partition(" not ")[0].split(", ")
    classifier("ResNet").save_pretrained(tmp_path)
    processor = saved_processor(tmp_path, *FIELDS[case])
    refusal = ""
    try:
        backbone = made(tmp_path)
    except UsageError as error:
        refusal = str(error)
    if refusal:
        assert any(field in refusal for field in fields)
        return
    found = features_of(backbone, processor)
    assert_same(found, classifier_input(tmp_path, processed(processor, pictures(backbone.input.size_px))))


def test_a_model_of_grey_images_is_refused_by_name(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**VIT, num_channels=1, num_labels=CLASSES)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    saved_processor(tmp_path, "ViT", {"size": SIZE, "image_mean": [0.5], "image_std": [0.5]})
    with pytest.raises(UsageError, match=r"num_channels|image_mean"):
        made(tmp_path)


def unusual(name):
    """A model whose input is no image (B, 3, S, S), or that needs a processor of its own; and its processor."""
    if name == "ImageGPT":
        config = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 4}
        colours = {"size": {"height": 4, "width": 4}, "clusters": [[-1.0] * 3, [0.0] * 3, [1.0] * 3]}
        return transformers.ImageGPTForImageClassification(transformers.ImageGPTConfig(**config)), colours
    if name == "Siglip2":
        config = transformers.Siglip2Config(vision_config=NAFLEX, text_config=TEXT)
        return transformers.Siglip2Model(config), {"patch_size": 8, "max_num_patches": 16}
    if name == "Perceiver":
        config = transformers.PerceiverConfig(**PERCEIVER, d_model=261, num_labels=CLASSES)
        return transformers.PerceiverForImageClassificationFourier(config), {"size": SIZE, "crop_size": SIZE}
    if name == "Vivit":
        config = transformers.VivitConfig(**VIT, num_frames=4, tubelet_size=[2, 8, 8])
        return transformers.VivitModel(config), {"size": EDGE, "crop_size": SIZE}
    config = transformers.VideoMAEConfig(**VIT, num_frames=4)
    return transformers.VideoMAEModel(config), CROPPED


@pytest.mark.parametrize("name", ["ImageGPT", "Siglip2", "Perceiver", "Vivit", "VideoMAE"])
def test_a_model_of_other_inputs_than_images_is_refused_by_its_type(name, tmp_path):
    torch.manual_seed(0)
    model, options = unusual(name)
    model.save_pretrained(tmp_path)
    saved_processor(tmp_path, name, options)
    with pytest.raises(UsageError, match=rf"(?i){model.config.model_type}"):
        made(tmp_path)


def test_a_model_of_timm_in_a_transformers_folder_works_or_is_refused_by_name(tmp_path):
    torch.manual_seed(0)
    card = timm.get_pretrained_cfg("test_resnet").to_dict()
    config = transformers.TimmWrapperConfig(
        architecture="test_resnet", pretrained_cfg=card, num_labels=CLASSES
    )
    model = stirred(transformers.TimmWrapperForImageClassification(config))
    model.save_pretrained(tmp_path)
    size = card["input_size"][-1]
    refusal = ""
    try:
        backbone = made(tmp_path)
    except UsageError as error:
        refusal = str(error)
    if refusal:
        assert "timm:" in refusal
        return
    assert backbone.input.size_px == size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_same(backbone.features(images), classifier_input(tmp_path, images))
