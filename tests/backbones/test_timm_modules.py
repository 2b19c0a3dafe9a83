"""`timm:` features are what timm's own classifier takes as input, for the smallest model of every module of timm."""

import contextlib
import itertools
from importlib.util import find_spec

import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from timm.layers import ClassifierHead, resample_abs_pos_embed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitbench.backbones.build import build
from vitbench.backbones.timm import timm_backbone
from vitbench.core.errors import UsageError

pytestmark = pytest.mark.slow

# The model with the fewest parameters of each module, counted on the meta device.
SMALLEST = """
beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 test_convnext
cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m deit_tiny_patch16_224
densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet efficientvim_m1
efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
gemma4_vit_167m ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t
inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s lowformer_b0 test_mambaout
test_coatnet poolformerv2_s12 gmlp_ti16_224 lcnet_035 mobilenetv5_base mobilevit_xxs mvitv2_tiny
naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0
qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d test_resnet resnetv2_18 rexnet_100
selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_tiny_window16_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11
visformer_tiny test_vit vit_tiny_r_s16_p8_224 test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224
ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
"""
# Others whose classifier or pooling is of another kind: two classifiers, a convolution before them, attention pooling.
OTHERS = """
deit_tiny_distilled_patch16_224 pit_ti_distilled_224 levit_conv_128s efficientvim_m1_dist mobilenetv3_small_050
ghostnetv3_050 test_efficientnet_gn test_convnext2 test_maxvit test_vit2 test_vit3 test_vit4 caformer_s18 resmlp_12_224
coat_lite_tiny eva02_tiny_patch14_224 mobileone_s0 vit_small_patch16_dinov3 vit_base_patch16_siglip_gap_224
vit_base_patch16_siglip_224 vit_base_patch16_clip_224 resnetv2_50x1_bit mixer_s32_224 nf_regnet_b0
"""
# Large models that can be built with fewer or narrower layers.
FEWER = {
    "beit_base_patch16_224": {"depth": 2},
    "deepseek_vit_412m": {"depth": 1, "embed_dim": 128, "num_heads": 2},
    "gemma4_vit_167m": {"depth": 1, "embed_dim": 128, "num_heads": 2, "intermediate_size": 128},
    "naflexvit_base_patch16_parfac_gap": {"depth": 2},
    "nasnetalarge": {"stem_size": 48, "num_features": 2016},
    "qwen3_vit_88m": {"depth": 1, "embed_dim": 128, "num_heads": 2},
    "sam2_hiera_tiny": {"stages": (1, 1, 2, 1), "global_att_blocks": (3,), "embed_dim": 48},
    "samvit_base_patch16_224": {"depth": 2, "global_attn_indexes": [1]},
    "vit_base_patch16_clip_224": {"depth": 2},
    "vit_base_patch16_siglip_224": {"depth": 2},
    "vit_base_patch16_siglip_gap_224": {"depth": 2},
}
MODELS = [name for name in (SMALLEST + OTHERS).split() if timm.is_model(name)]
# Large networks without anything of their own about sizes: left out where the image size changes.
LARGE = ("pnasnet5large", "nasnetalarge", "vgg11", "mobilenetv5_base", "sam2_hiera_tiny", "sequencer2d_s")
SIZED = [name for name in MODELS if name not in LARGE]
CLASSES = 5


@pytest.fixture(autouse=True)
def _fewer_layers(monkeypatch):
    """timm builds the models of `FEWER` with fewer layers, for vitbench and for the reference alike."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **options: create(name, **FEWER.get(name, {}), **options)
    )


def untrained(name, **options):
    """vitbench's model with noise on all its weights, so that none is zero or one, and statistics of real activations."""
    backbone = timm_backbone(name, pretrained=False, **options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in backbone.model.state_dict().items():
            if tensor.is_floating_point() and not key.endswith("running_var"):
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise, alpha=0.1 if tensor.ndim < 2 else 0.02)
        norms = [module for module in backbone.model.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        if norms:
            with contextlib.suppress(Exception):  # a size that it cannot take: the test will say so
                backbone.features(image_batch(backbone.input.size_px))
    return backbone.eval()


def with_classifier(name, **options):
    """timm's own model with a classifier, in evaluation mode."""
    return timm.create_model(name, num_classes=CLASSES, **options).eval()


def copy_trunk(state, model):
    """Copy weights into a model; all but those of its classifiers are there."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    heads = {id(weight) for head in itertools.chain(*classifiers(model)) for weight in head.parameters()}
    trunk = {name for name, weight in model.named_parameters() if id(weight) not in heads}
    assert [name for name in missing if name in trunk and not name.startswith("aux_head.")] == []
    assert unexpected == []


def classifiers(model):
    """timm's classifiers: one, or two of a distilled model, each with one or more branches."""
    found = model.get_classifier()
    heads = found if isinstance(found, tuple) else (found,)
    branches = [list(head) if isinstance(head, nn.ModuleList) else [head] for head in heads]
    # a ClassifierHead pools what it is given
    return [[head.fc if isinstance(head, ClassifierHead) else head for head in group] for group in branches]


def classifier_input(model, images):
    """What timm's classifier takes as input (B, D): branches side by side, and the mean of two classifiers' inputs."""
    seen = {}
    for head in itertools.chain(*classifiers(model)):
        head.register_forward_pre_hook(lambda module, inputs: seen.update({module: inputs[0].flatten(1)}))
    with torch.no_grad():
        assert model(images).shape == (len(images), CLASSES)
    groups = [torch.cat([seen[head] for head in group], dim=1) for group in classifiers(model)]
    return torch.stack(groups).mean(0)


def image_batch(size_px):
    """Two images of large coloured patches: unlike noise, they are not alike once averaged."""
    coarse = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(2 * coarse, (size_px, size_px), mode="bilinear")


def assert_same(found, wanted):
    assert found.shape == wanted.shape
    assert torch.isfinite(wanted).all()
    largest = wanted.abs().max()
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3 * largest  # the features depend on the image
    assert (found - wanted).abs().max() <= 1e-5 * max(1, largest)


def larger(backbone):
    """The native size and one stride of the last features more."""
    return backbone.input.size_px + (backbone.model.feature_info[-1]["reduction"] or 32)


def reference_at(name, size_px):
    """timm's model for images of this size, if it asks for one."""
    try:
        return with_classifier(name, img_size=size_px)
    except TypeError:
        return with_classifier(name)


def resized(old, new):
    """Weights for a model of another image size, with timm's own resizing of position embeddings."""
    state = old.state_dict()
    if "pos_embed" in state and state["pos_embed"].shape != new.state_dict()["pos_embed"].shape:
        height, width = old.patch_embed.grid_size
        prefix = state["pos_embed"].shape[1] - height * width
        grid = list(new.patch_embed.grid_size)
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], grid, num_prefix_tokens=prefix)
    return state


def features_or_refusal(make, size_px):
    """Features (B, D) of the backbone that `make` gives, or None where an error that names the image size refuses it."""
    refusal = ""
    try:
        backbone = make().eval()
        with torch.no_grad():
            found = backbone.features(image_batch(size_px))
    except UsageError as error:
        refusal = str(error)
    if refusal:
        assert f"{size_px} px" in refusal
        return None
    assert backbone.input.size_px == size_px
    assert backbone.feature_dim == found.shape[1]
    return found


@pytest.mark.parametrize("module", [each for each in timm.list_modules() if find_spec(f"timm.models.{each}")])
def test_a_model_of_every_module_is_tried(module):
    assert set(timm.list_models(module=module)) & set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_features_are_the_input_of_timms_own_classifier(name):
    backbone = untrained(name)
    model = with_classifier(name)
    copy_trunk(backbone.model.state_dict(), model)
    size_px = backbone.input.size_px
    with torch.no_grad():
        found = backbone.features(image_batch(size_px))
    assert_same(found, classifier_input(model, image_batch(size_px)))
    assert backbone.feature_dim == found.shape[1]
    config = resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    assert (3, size_px, size_px) == config["input_size"]
    assert (backbone.input.mean, backbone.input.std) == (config["mean"], config["std"])


@pytest.mark.parametrize("name", SIZED)
def test_a_model_built_for_a_larger_size_is_timms_or_is_refused_by_name(name):
    size_px = larger(timm_backbone(name, pretrained=False))
    built = []

    def make():
        built.append(untrained(name, size_px=size_px))
        return built[0]

    found = features_or_refusal(make, size_px)
    if found is not None:
        model = reference_at(name, size_px)
        copy_trunk(built[0].model.state_dict(), model)
        assert_same(found, classifier_input(model, image_batch(size_px)))


@pytest.mark.parametrize("name", SIZED)
def test_weights_resized_to_a_larger_size_are_timms_or_are_refused_by_name(name):
    backbone = untrained(name, position_resize="timm")
    size_px = larger(backbone)
    found = features_or_refusal(lambda: backbone.at_resolution(size_px), size_px)
    if found is not None:
        model = reference_at(name, size_px)
        copy_trunk(resized(backbone.model, model), model)
        assert_same(found, classifier_input(model, image_batch(size_px)))


@pytest.mark.parametrize("name", timm.list_models("*_enc"))
def test_an_encoder_that_timm_gives_no_classifier_is_refused_by_name(name):
    def features():
        backbone = build(f"timm:{name}", {}, meta=True)
        size_px = backbone.input.size_px
        return backbone.features(torch.zeros(1, 3, size_px, size_px, device="meta"))

    with pytest.raises(UsageError, match=name):
        features()
